"""From configuration to objects: data that were checked, parsers that fit, and one sentence for everything else."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from semfacediff import config, hydra_app
from semfacediff.data.opening import open_data
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES
from semfacediff.parsing import GroundTruthParser, ModelParser, PrecomputedParser
from semfacediff.parsing.checkpoint import load_parser
from semfacediff.parsing.opening import new_parser, open_parser

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def settings(*overrides, primary="evaluate"):
    cfg = hydra_app.composed(primary, [str(o) for o in overrides], ROOT)
    return config.typed(cfg, config.EditingEvaluation, config.ParserTraining)


def folder(root, *overrides):
    return settings("data=folder", f"data.root={root}", *overrides).data


def damage(root, encode, sample):
    """Four defects in a folder of toy faces, ids 00000 to 00003."""
    (root / "images" / "00000.png").write_bytes(b"")
    (root / "masks" / "00001.png").write_bytes(encode(sample.photo))
    (root / "masks" / "00002.png").unlink()
    (root / "images" / "00003.png").write_bytes(encode(sample.photo[:1, :1]))


class TestData:
    def test_fewer_samples_than_asked_for(self, monkeypatch, capsys):
        monkeypatch.delenv("SEMFACEDIFF_OVERRIDES", raising=False)
        with pytest.raises(UserError, match=r"data.n=30, but split 'all' has 20 samples; lower data.n or unset it"):
            open_data(settings("data.count=20", "data.size=32", "data.n=30").data)
        monkeypatch.setenv("SEMFACEDIFF_OVERRIDES", "data.n=30")
        with pytest.raises(UserError, match=r"data.n=30, but split 'all' has 20 samples; lower data.n or unset it"):
            open_data(settings("data.count=20", "data.size=32", "data.n=30").data)
        monkeypatch.setenv("SEMFACEDIFF_OVERRIDES", "experiment=thesis/table_6_1")
        assert len(open_data(settings("data.count=20", "data.size=32", "data.n=30").data).faces) == 20
        assert "data.n=30, but split 'all' has 20 samples: all of them are used" in capsys.readouterr().err

    def test_toy_faces_by_split(self):
        def toy(*more):
            return open_data(settings("data.count=20", "data.size=32", "data.split_rule.test=[1]", *more).data)

        parts = {split: toy(f"data.split={split}").faces.ids for split in ("train", "val", "test", "all")}
        assert parts["val"] == ["00000", "00010"]
        assert parts["test"] == ["00001", "00011"]
        assert sorted(parts["train"] + parts["val"] + parts["test"]) == parts["all"]
        assert toy("data.n=3").faces.ids == ["00000", "00001", "00002"]
        assert toy("data.n=3").digest != toy("data.n=4").digest != toy("data.n=4", "data.seed=1").digest

    def test_the_limit_cuts_what_n_left(self):
        toy = settings("data.count=20", "data.size=32", "data.n=5").data
        assert open_data(toy, limit=2).faces.ids == ["00000", "00001"]
        assert len(open_data(toy, limit=9).faces) == 5

    @pytest.mark.parametrize("kind", ["folder", "shards"])
    def test_files(self, kind, toy_folder, toy_shards):
        root = toy_folder(11) if kind == "folder" else toy_shards(11)
        found = settings(f"data={kind}", f"data.root={root}").data
        assert len(open_data(found).faces) == 11
        assert open_data(found, split="val").faces.ids == ["00000", "00010"]
        assert open_data(found).skipped == {}
        assert open_data(found).label_space is CELEBAMASK

    def test_every_bad_file_is_named_in_one_error(self, toy_folder, encode, toy_samples):
        root = toy_folder(6)
        damage(root, encode, toy_samples(1)[0])
        with pytest.raises(UserError) as caught:
            open_data(folder(root))
        message = str(caught.value)
        assert message.startswith(f"4 of the samples in {root} cannot be used; fix them, or set data.on_error=skip to")
        for reason in (
            "images/00000.png: the file is empty",
            "masks/00001.png: expected a label map in mode L, P or I;16, got RGB",
            "images/00002.png: a photo without a label map",
            "images/00003.png: 1x1 px; a photo needs at least 32 px a side",
        ):
            assert f"\n  {reason}" in message

    def test_skipping_records_what_was_left_out(self, toy_folder, encode, toy_samples):
        root = toy_folder(6)
        damage(root, encode, toy_samples(1)[0])
        data = open_data(folder(root, "data.on_error=skip"))
        assert data.faces.ids == ["00004", "00005"]
        assert sorted(data.skipped) == ["00000", "00001", "00002", "00003"]
        assert data.skipped["00000"] == "images/00000.png: the file is empty"
        assert np.array_equal(data.faces[0].labels, toy_samples(5)[4].labels)

    def test_a_long_list_is_cut_and_counted(self, toy_folder):
        root = toy_folder(1)
        for i in range(60):
            (root / "masks" / f"x{i:03d}.png").write_bytes(b"")
        with pytest.raises(UserError) as caught:
            open_data(folder(root))
        assert str(caught.value).startswith("60 of the samples")
        assert str(caught.value).endswith("\n  ... and 10 more")

    def test_a_broken_shard_is_one_of_the_bad_files(self, toy_shards):
        root = toy_shards(8)
        shard = root / "toy-00000.tar"
        shard.write_bytes(shard.read_bytes()[:900])
        with pytest.raises(UserError, match=r"\n  toy-00000.tar: not a whole tar \(.*\); copy the shard again"):
            open_data(settings("data=shards", f"data.root={root}").data)
        data = open_data(settings("data=shards", f"data.root={root}", "data.on_error=skip").data)
        assert data.faces.ids == ["00004", "00005", "00006", "00007"]
        assert "toy-00000.tar" in data.skipped

    def test_nothing_left(self, toy_folder):
        root = toy_folder(1)
        with pytest.raises(
            UserError,
            match=r"data: no usable sample in split 'test'; data.split_rule \(by id, modulo 10\) selects none",
        ):
            open_data(folder(root, "data.split=test"))
        with pytest.raises(UserError, match=r"no usable sample in split 'test'"):
            open_data(settings("data.count=5", "data.split=test").data)

    def test_labels_of_another_space_than_stated(self, toy_folder):
        with pytest.raises(
            UserError, match=r"2 of the samples .*\n  masks/00000.png: label values .* outside space 'lapa'"
        ):
            open_data(folder(toy_folder(2), "data.label_space=lapa"))

    def test_photos_alone(self, toy_folder):
        data = open_data(folder(toy_folder(2, masks=False)), labels_needed=False)
        assert data.faces[0].labels is None

    def test_a_home_folder_is_expanded(self, toy_folder, monkeypatch):
        root = toy_folder(1)
        monkeypatch.setenv("HOME", str(root.parent))
        assert len(open_data(folder(f"'~/{root.name}'")).faces) == 1


class TestParser:
    def parser(self, *overrides, space=CELEBAMASK):
        return open_parser(settings(*overrides).parser, space, CPU)

    def test_a_checkpoint_folder(self, tiny_checkpoint):
        parser, facts = self.parser(f"parser.checkpoint={tiny_checkpoint}")
        assert isinstance(parser, ModelParser)
        assert facts["name"] == "fastscnn_lite"
        assert facts["label_space"] == "celebamask"
        assert facts["input_size"] == 64
        assert len(facts["digest"]) == 64

    def test_a_changed_card_is_another_parser(self, tiny_checkpoint, tmp_path):
        facts = self.parser(f"parser.checkpoint={tiny_checkpoint}")[1]
        copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
        assert self.parser(f"parser.checkpoint={copy}")[1]["digest"] == facts["digest"]
        card = copy / "parser.json"
        card.write_text(card.read_text().replace('"input_size": 64', '"input_size": 128'))
        assert self.parser(f"parser.checkpoint={copy}")[1]["digest"] != facts["digest"]

    def test_the_name_may_be_repeated(self, tiny_checkpoint):
        parser, _ = self.parser("parser=fastscnn_lite", f"parser.checkpoint={tiny_checkpoint}")
        assert isinstance(parser, ModelParser)

    def test_a_name_that_contradicts_the_checkpoint(self, tiny_checkpoint):
        with pytest.raises(UserError, match=r"parser=unet contradicts .*, which holds 'fastscnn_lite'; drop one of"):
            self.parser("parser.name=unet", f"parser.checkpoint={tiny_checkpoint}")

    def test_none_is_named(self, nothing_ships):
        with pytest.raises(
            UserError, match=r"no trained parser: set parser.checkpoint=FOLDER .* or parser=ground_truth"
        ):
            self.parser()

    def test_a_missing_checkpoint(self, tmp_path):
        with pytest.raises(UserError, match=r"parser.checkpoint: nothing is at .*none; train one with train_parser.py"):
            self.parser(f"parser.checkpoint={tmp_path / 'none'}")

    def test_a_foreign_folder(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(
            UserError, match=r"parser.checkpoint: .* holds no parser.json; expected a checkpoint folder"
        ):
            self.parser(f"parser.checkpoint={tmp_path}")

    def test_a_bare_weights_file_needs_its_name(self, tiny_checkpoint):
        file = tiny_checkpoint / "model.safetensors"
        with pytest.raises(UserError, match=r"is a bare weights file; name its architecture with parser=NAME"):
            self.parser(f"parser.checkpoint={file}")
        parser, facts = self.parser("parser=fastscnn_lite", f"parser.checkpoint={file}")
        assert isinstance(parser, ModelParser)
        assert facts["input_size"] == 512

    def test_ground_truth_and_precomputed(self, tmp_path, encode):
        assert isinstance(self.parser("parser=ground_truth")[0], GroundTruthParser)
        (tmp_path / "before").mkdir()
        (tmp_path / "before" / "a.png").write_bytes(encode(np.zeros((8, 8), np.uint8)))
        parser, _ = self.parser("parser=precomputed", f"parser.root={tmp_path}")
        assert isinstance(parser, PrecomputedParser)
        before = parser.fingerprint("a", None)
        (tmp_path / "before" / "a.png").write_bytes(encode(np.ones((8, 8), np.uint8)))
        assert parser.fingerprint("a", None) != before


class TestNewParser:
    def new(self, *overrides, space=CELEBAMASK):
        return new_parser(settings(*overrides, primary="train_parser").parser, space, 64)

    def test_a_fresh_architecture_for_the_datas_classes(self):
        model, card = self.new(space=SPACES["lapa"])
        assert model.state_dict()["classifier.3.bias"].shape == (11,)
        assert (card.name, card.label_space, card.input_size) == ("fastscnn_lite", "lapa", 64)

    @pytest.mark.parametrize("kind", ["checkpoint", "fastscnn_lite"])
    def test_training_goes_on_from_a_checkpoint(self, tiny_checkpoint, kind):
        model, card = self.new(f"parser={kind}", f"parser.checkpoint={tiny_checkpoint}")
        saved, _ = load_parser(tiny_checkpoint)
        assert all(torch.equal(v, saved.state_dict()[k]) for k, v in model.state_dict().items())
        assert card.training == {}

    def test_a_checkpoint_of_another_label_space(self, tiny_checkpoint):
        with pytest.raises(
            UserError, match=r"parser.checkpoint was trained for label space 'celebamask', the data are 'segface'"
        ):
            self.new(f"parser.checkpoint={tiny_checkpoint}", space=SPACES["segface"])

    def test_no_architecture(self):
        with pytest.raises(
            UserError, match=r"no parser to train: set parser=fastscnn_lite, or parser.checkpoint=FOLDER"
        ):
            self.new("parser=checkpoint")

    def test_no_model_at_all(self):
        with pytest.raises(UserError, match=r"parser 'ground_truth' is no architecture but parses by itself"):
            self.new("parser=ground_truth")


@pytest.mark.shared_data
def test_photos_of_the_real_subset_are_read_and_split(shared_data):
    val = settings("data=shards", f"data.root={shared_data}", "data.split=val", "data.n=20").data
    data = open_data(val)
    assert len(data.faces) == 20
    assert data.skipped == {}
    assert all(id_.endswith("0") for id_ in data.faces.ids)
    sample = data.faces[0]
    assert sample.labels.shape == sample.photo.shape[:2] == (512, 512)

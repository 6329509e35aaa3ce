"""The parser that ships with the package: what uses it, what does not, and that a wheel holds it."""

import json
import shutil

import numpy as np
import pytest
import torch

import semfacediff
from semfacediff import cli, config
from semfacediff.commands.edit.one_photo import EditOptions, settings_of
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import ParserCard, build_parser, default, save_parser
from semfacediff.parsing.checkpoint import checkpoint_digest, load_parser
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.opening import new_parser, open_parser, start_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ``face_lite`` of another story than a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build_parser("face_lite", classes=19)
    place = tmp_path_factory.mktemp("shipped") / "face_lite"
    save_parser(model, ParserCard.of_kind("face_lite", "celebamask", 64, {"run": "shipped"}), place)
    return place


@pytest.fixture
def shipped(folder, monkeypatch):
    monkeypatch.setattr(default, "FOLDER", folder)
    return folder


@pytest.fixture
def settings(compose):
    def typed(*overrides, primary="evaluate"):
        return config.typed(compose(primary, *overrides), config.EditingEvaluation, config.ParserTraining)

    return typed


def test_it_is_there_when_its_weights_are(shipped, nothing_ships):
    assert default_parser() is None


def test_what_ships_with_this_version_is_whole():
    if (place := default_parser()) is None:
        pytest.skip("no weights in this checkout")
    model, card = load_parser(place)
    assert card.name == default.SHIPPED
    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    assert (place / "model.safetensors").stat().st_size <= 4_000_000
    assert (place / "MODEL_CARD.md").stat().st_size
    assert (place / "LICENSE-WEIGHTS").stat().st_size


class TestEvaluation:
    def test_it_needs_no_checkpoint(self, shipped, settings):
        for words in ((), ("parser=face_lite",)):
            parser, facts = open_parser(settings(*words).parser, CELEBAMASK, CPU)
            assert facts == {
                "name": "face_lite",
                "digest": checkpoint_digest(shipped),
                "label_space": "celebamask",
                "input_size": 64,
                "backend": "torch",
            }
            assert parser.card.training == {"run": "shipped"}

    def test_its_ways_of_being_named_are_one_configuration(self, settings):
        plain = config.scientific(settings())
        for word in ("parser=face_lite", "parser.checkpoint=RUN", "parser.backend=onnx"):
            assert config.scientific(settings(word)) == plain, word
        assert config.scientific(settings("parser=ground_truth")) != plain

    def test_others_need_theirs(self, shipped, settings):
        with pytest.raises(UserError, match=r"no trained parser: set parser.checkpoint=FOLDER"):
            open_parser(settings("parser=unet_lite").parser, CELEBAMASK, CPU)

    def test_other_options_are_refused(self, shipped, settings):
        chosen = settings("parser=face_lite").parser.model_copy(update={"options": {"decoder_width": 32}})
        with pytest.raises(
            UserError, match=r"parser.options={'decoder_width': 32} contradicts .*face_lite, which has {}"
        ):
            open_parser(chosen, CELEBAMASK, CPU)

    def test_onnx_has_to_be_made_first(self, shipped, settings):
        with pytest.raises(UserError, match=r"face_lite holds no model.onnx; make one with: semfacediff export "):
            open_parser(settings("parser.backend=onnx").parser, CELEBAMASK, CPU)


def test_training_starts_fresh(shipped, settings):
    torch.manual_seed(5)
    model, card = new_parser(settings("parser=face_lite", primary="train_parser").parser, CELEBAMASK, 64)
    torch.manual_seed(5)
    fresh = build_parser("face_lite", classes=19).state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in model.state_dict().items())
    assert card.training == {}
    assert start_weights(settings("parser=face_lite", primary="train_parser").parser) is None


class TestPhotos:
    def test_parse(self, shipped, tmp_path, encode, toy_samples):
        photo = toy_samples(1, 64)[0].photo
        (tmp_path / "me.png").write_bytes(encode(photo))
        words = ["parse", str(tmp_path / "me.png"), "--out", str(tmp_path / "out"), "--device", "cpu"]
        assert cli.main(words) == 0
        facts = json.loads((tmp_path / "out" / "me.json").read_text())
        assert facts["parser"]["digest"] == checkpoint_digest(shipped)
        named = semfacediff.parse(photo, shipped, device="cpu")
        assert np.array_equal(semfacediff.parse(photo, device="cpu"), named)

    def test_edit(self, shipped):
        wish = EditOptions(
            edits=[("hair", "red hair")],
            editor="recolor",
            seed=1,
            strengths=[],
            negative=None,
            parser=None,
            face="all",
            reparse=False,
            order="given",
            weights=None,
            device="cpu",
            overrides=["parser.backend=onnx"],
        )
        found = settings_of(wish).parser
        assert (found.checkpoint, found.backend) == (str(shipped), "onnx")

    def test_none_ships(self, nothing_ships, toy_samples):
        with pytest.raises(UserError, match=r"parse: no parser ships with this version; pass checkpoint=FOLDER"):
            semfacediff.parse(toy_samples(1, 64)[0].photo)


def test_a_wheel_holds_every_file_of_it(tmp_path, repository):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs the extra 'dev'")
    for name in ("pyproject.toml", ".gitignore", "README.md", "LICENSE"):
        shutil.copyfile(repository / name, tmp_path / name)
    package = tmp_path / "src" / "semfacediff"
    place = package / "parsing" / "shipped" / "face_lite"
    place.mkdir(parents=True)
    files = {"model.safetensors", "parser.json", "MODEL_CARD.md", "LICENSE-WEIGHTS"}
    for file in [package / "__init__.py", package / "x.safetensors", *(place / name for name in files)]:
        file.write_text("x")
    found = {f.distribution_path for f in wheel.WheelBuilder(str(tmp_path)).recurse_included_files()}
    assert found == {"semfacediff/__init__.py"} | {f"semfacediff/parsing/shipped/face_lite/{name}" for name in files}

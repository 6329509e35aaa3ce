"""Checkpoint folders: what is written comes back, a kill loses nothing, and what does not fit is refused."""

import argparse
import json
import pickle
import shutil

import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.parsing import ParserCard, build_parser, load_parser, save_parser
from semfacediff.parsing.checkpoint import load_published, read_card, resolve
from semfacediff.weight_files import file_digest, read_pickle_safely, read_weights


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def rewrite(folder, **changes):
    card = json.loads((folder / "parser.json").read_text())
    card.update(changes)
    (folder / "parser.json").write_text(json.dumps({k: v for k, v in card.items() if v != "absent"}))


class TestRoundTrip:
    def test_weights_and_card_come_back(self, tmp_path):
        model = build_parser("fastscnn_lite")
        card = ParserCard.of_kind("fastscnn_lite", "celebamask", 64, {"run": "x"})
        save_parser(model, card, tmp_path / "a")
        loaded, again = load_parser(tmp_path / "a")
        assert not loaded.training
        assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
        assert (again.name, again.label_space, again.input_size) == ("fastscnn_lite", "celebamask", 64)
        assert tuple(again.mean) == card.mean
        assert tuple(again.std) == card.std
        assert again.training == {"run": "x"}

    def test_a_folder_holds_weights_and_a_readable_card(self, tiny_checkpoint):
        assert sorted(p.name for p in tiny_checkpoint.iterdir()) == ["model.safetensors", "parser.json"]
        assert json.loads((tiny_checkpoint / "parser.json").read_text())["format"] == 1

    def test_saving_again_replaces_the_folder_whole(self, checkpoint):
        (checkpoint / "stale.txt").write_text("x")
        before = file_digest(checkpoint / "model.safetensors")
        save_parser(build_parser("fastscnn_lite"), ParserCard.of_kind("fastscnn_lite", "celebamask", 96), checkpoint)
        assert read_card(checkpoint).input_size == 96
        assert file_digest(checkpoint / "model.safetensors") != before
        assert [p.name for p in checkpoint.parent.iterdir() if p.name.startswith("copy")] == ["copy"]
        assert not (checkpoint / "stale.txt").exists()

    def test_what_a_kill_left_of_a_new_folder_is_no_hindrance(self, tmp_path):
        (tmp_path / "a.new").mkdir()
        (tmp_path / "a.new" / "model.safetensors").write_bytes(b"half")
        save_parser(
            build_parser("fastscnn_lite"), ParserCard.of_kind("fastscnn_lite", "celebamask", 64), tmp_path / "a"
        )
        load_parser(tmp_path / "a")


class TestResolve:
    def test_a_folder_is_itself(self, tiny_checkpoint):
        assert resolve(tiny_checkpoint) == tiny_checkpoint
        assert resolve(str(tiny_checkpoint)) == tiny_checkpoint

    def test_of_a_run_the_best_else_the_last(self, tiny_checkpoint, tmp_path):
        run = tmp_path / "run"
        last = shutil.copytree(tiny_checkpoint, run / "checkpoints" / "last")
        assert resolve(run) == last
        best = shutil.copytree(tiny_checkpoint, run / "checkpoints" / "best")
        assert resolve(run) == best

    def test_nothing_there(self, tmp_path):
        with pytest.raises(
            UserError, match=r"parser.checkpoint: nothing is at .*none; train one with train_parser.py, or"
        ):
            resolve(tmp_path / "none")

    def test_something_else_there(self, tmp_path):
        with pytest.raises(
            UserError, match=r"parser.checkpoint: .* holds no parser.json; expected a checkpoint folder, the"
        ):
            resolve(tmp_path)


class TestDamage:
    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '"text"', "3", "null", "{}", '{"format": 1}', '{"format": 1, "a": 2}']
    )
    def test_a_damaged_card(self, checkpoint, text):
        (checkpoint / "parser.json").write_text(text)
        with pytest.raises(
            UserError, match=r"parser.json: not a parser's card \(.*\); retrain or copy the folder again$"
        ):
            load_parser(checkpoint)

    def test_a_card_that_is_no_text(self, checkpoint):
        (checkpoint / "parser.json").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match=r"parser.json: not a parser's card"):
            load_parser(checkpoint)

    def test_another_format(self, checkpoint):
        rewrite(checkpoint, format=9)
        with pytest.raises(
            UserError, match=r"parser.json: format 9 is not 1; use the version of semfacediff that wrote it$"
        ):
            load_parser(checkpoint)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"mean": "absent"}, r"not a parser's card \(.*missing.*'mean'"),
            ({"colour": "red"}, r"not a parser's card \(.*unexpected keyword argument 'colour'"),
            ({"input_size": "512"}, r"not a parser's card \(unusable input_size: '512'\)"),
            ({"input_size": 0}, r"unusable input_size: 0"),
            ({"std": [1, 1]}, r"unusable std: \[1, 1\]"),
            ({"std": [1, 1, 0]}, r"unusable std: \[1, 1, 0\]"),
            ({"mean": None, "options": []}, r"unusable mean: None, options: \[\]"),
            ({"name": "fastscnn"}, r"unknown parser 'fastscnn'; choose one of"),
            ({"label_space": "celeba"}, r"unknown label space 'celeba'; choose one of"),
            ({"label_space": ["lapa"]}, r"unusable label_space: \['lapa'\]"),
            ({"options": {"depth": 3}}, r"parser 'fastscnn_lite': .*unexpected keyword argument 'depth'"),
        ],
    )
    def test_a_card_edited_by_hand(self, checkpoint, changes, message):
        rewrite(checkpoint, **changes)
        with pytest.raises(UserError, match=message):
            load_parser(checkpoint)

    def test_missing_weights(self, checkpoint):
        (checkpoint / "model.safetensors").unlink()
        with pytest.raises(
            UserError, match=r"model.safetensors: the weights cannot be read \(.*\); copy the file again"
        ):
            load_parser(checkpoint)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
    def test_truncated_weights(self, checkpoint, share):
        file = checkpoint / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(
            UserError, match=r"model.safetensors: the weights cannot be read \(.*\); copy the file again"
        ):
            load_parser(checkpoint)

    def test_a_card_of_another_label_space_does_not_fit_the_weights(self, checkpoint):
        rewrite(checkpoint, label_space="lapa")
        with pytest.raises(
            UserError, match=r"2 mis-shaped keys \(classifier.3.weight \[19, 128, 1, 1\] instead of \[11, 128, 1, 1\]"
        ):
            load_parser(checkpoint)


class Trap:
    """Unpickled without care, it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


class TestPickles:
    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize("protocol", ["torch", "legacy", 0, 2, 4])
    def test_one_that_carries_code_is_refused_and_not_run(self, tmp_path, protocol):
        file, touched = tmp_path / "weights.pth", tmp_path / "touched"
        contents = {"state_dict": {"a": Trap(touched)}}
        if protocol in ("torch", "legacy"):
            torch.save(contents, file, _use_new_zipfile_serialization=protocol == "torch")
        else:
            file.write_bytes(pickle.dumps(contents, protocol))
        with pytest.raises(UserError, match=r"weights.pth: refused, "):
            read_pickle_safely(file)
        with pytest.raises(UserError, match=r"weights.pth: refused, "):
            load_published("fastscnn_lite", file)
        assert not touched.exists()
        pickle.loads(pickle.dumps(Trap(touched))).close()
        assert touched.exists(), "the trap works"

    def test_what_it_carries_is_named(self, tmp_path):
        torch.save({"args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
        with pytest.raises(
            UserError,
            match=r"a.pt: refused, the pickle carries code or objects \(argparse.Namespace\), not only tensors",
        ):
            read_pickle_safely(tmp_path / "a.pt")

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize(
        "data", [b"", b"no pickle at all" * 40, b"<!DOCTYPE html><html></html>", bytes(range(256)) * 9]
    )
    def test_no_weights_at_all(self, tmp_path, data):
        (tmp_path / "a.bin").write_bytes(data)
        with pytest.raises(
            UserError, match=r"a.bin: (not a readable weights file \(.+\)|refused, not a pickle of tensors)"
        ):
            read_pickle_safely(tmp_path / "a.bin")

    @pytest.mark.parametrize(
        ("text", "got"),
        [
            ("", "an empty file"),
            ("hello, world", "a file that begins with 'hello, world'"),
            ("This is a note on weights.\n" * 40, "a file that begins with 'This is a no'"),
        ],
    )
    def test_another_kind_of_file_is_shown_as_it_begins(self, tmp_path, text, got):
        """However torch's unpickler fails at it."""
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(UserError) as e:
            read_weights(tmp_path / "a.txt")
        assert f"(expected what torch.save writes, or .safetensors, got {got}); copy" in str(e.value)
        assert "Error" not in str(e.value)

    def test_truncated(self, tmp_path):
        file = tmp_path / "a.pt"
        torch.save({"a": torch.zeros(4000)}, file)
        whole = file.read_bytes()
        for share in (0.1, 0.6, 0.99):
            file.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(UserError, match=r"a.pt: not a readable weights file \(.+\); copy it again"):
                read_pickle_safely(file)

    def test_not_there(self, tmp_path):
        with pytest.raises(UserError, match=r"a.pt: not a readable weights file \(FileNotFoundError"):
            read_weights(tmp_path / "a.pt")
        with pytest.raises(UserError, match=r"a.safetensors: the weights cannot be read"):
            read_weights(tmp_path / "a.safetensors")

    def test_a_lone_tensor(self, tmp_path):
        torch.save(torch.zeros(3), tmp_path / "a.pt")
        with pytest.raises(UserError, match=r"a.pt: expected a dictionary of tensors, got a Tensor"):
            read_pickle_safely(tmp_path / "a.pt")


class TestReleasedFiles:
    @pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.safetensors"])
    def test_every_file_type_loads(self, tiny_checkpoint, tmp_path, name):
        model, _ = load_parser(tiny_checkpoint)
        file = tmp_path / name
        if name == "a.safetensors":
            shutil.copy(tiny_checkpoint / "model.safetensors", file)
        else:
            torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, file)
        loaded, card = load_published("fastscnn_lite", file)
        assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
        assert (card.name, card.label_space, card.input_size) == ("fastscnn_lite", "celebamask", 512)

    def test_a_damaged_safetensors_file(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
        with pytest.raises(UserError, match=r"a.safetensors: the weights cannot be read"):
            load_published("fastscnn_lite", tmp_path / "a.safetensors")

"""``semfacediff doctor``: quick, complete, and it touches nothing."""

import json
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants

from semfacediff.cli import main
from semfacediff.commands.doctor import machine as doctor
from semfacediff.commands.fetch import weights as fetch
from semfacediff.data.toy_official import write_official
from semfacediff.metrics import weights
from semfacediff.metrics.weights import PUBLIC
from semfacediff.parsing import default
from semfacediff.parsing.checkpoint import checkpoint_digest

OF_LABELS = {
    *("train_parser.py", "evaluate.py task=parsing"),
    *("train_synthesis.py", "evaluate.py task=synthesis"),
}
"""Commands that want photos with labels."""


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch, nothing_ships):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))

    def no_network(*_, **__):
        pytest.fail("went to the network")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))


def test_a_bare_machine_is_told_what_is_missing_and_how_to_get_it(tmp_path, capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for public in PUBLIC:
        file = public.files[0]
        for part in (file.file, f"{file.size:,} bytes", file.sha256[:8], f"semfacediff fetch {public.key};"):
            assert part in text
    assert "cpu: " in text
    full = next(line for line in text.splitlines() if line.startswith("  evaluate.py metrics=full:"))
    assert "data, a parser, an editor; no photos at SEMFACEDIFF_DATA; set it, or name another folder" in full
    assert full.endswith("missing weights: lpips_alexnet, inception, clip (or metrics.on_missing=skip)")
    assert "sdxl_inpaint: missing; to fetch it: semfacediff fetch sdxl_inpaint" in text
    assert (
        "  jonathandinu/face-parsing (the thesis's SegFormer-B5, CelebAMask-HQ, up to 339 MB): missing; to fetch it: "
        "semfacediff fetch jonathandinu/face-parsing\n"
    ) in text
    assert "kartiknarayan/SegFace/convnext_celeba_512, efficientnet_celeba_512, mobilenet_celeba_512, resnet" in text
    assert "make demo: nothing" in text
    assert not (tmp_path / "hub").exists()
    assert not (tmp_path / "home").exists()


def test_published_parsers_in_the_cache(hub_cache, tmp_path, capsys):
    for name in ("model_299.pt", "mobilenet_celeba_512/model_299.pt"):
        (tmp_path / "segface" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "segface" / name).write_bytes(b"never read")
    snapshot = hub_cache("kartiknarayan/SegFace", tmp_path / "segface")
    (tmp_path / "parser").mkdir()
    (tmp_path / "parser" / "config.json").write_text('{"model_type": "segformer"}')
    broken = hub_cache("jonathandinu/face-parsing", tmp_path / "parser")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    line = "  kartiknarayan/SegFace/mobilenet_celeba_512 (SegFace, with its optimizer's state): "
    assert f"{line}{snapshot / 'mobilenet_celeba_512' / 'model_299.pt'}" in text
    assert f"  jonathandinu/face-parsing: unusable: {broken}/config.json: none of SegFormer's sizes" in text
    assert "not here; one of them: semfacediff fetch kartiknarayan/SegFace/convnext_celeba_512\n" in text


def test_edits_need_a_pipeline_and_a_broken_one_is_told_from_none(tiny_sdxl, tmp_path, capsys):
    broken = shutil.copytree(tiny_sdxl / "sdxl_inpaint", tmp_path / "broken" / "sdxl_inpaint")
    (broken / "vae" / "config.json").unlink()
    said = {}
    for root in (tiny_sdxl, tmp_path / "broken", tmp_path / "none"):
        assert main(["doctor", "--root", str(root)]) == 0
        lines = [line.strip().partition(": ") for line in capsys.readouterr().out.splitlines()]
        said[root.name] = {name: text for name, _, text in lines}
    whole, broken, none = said.values()
    assert whole["sdxl_inpaint"] == f"{tiny_sdxl}/sdxl_inpaint; editor: random weights, for tests"
    assert whole["inpaint"].startswith(f"{tiny_sdxl}/inpaint; ")
    assert broken["sdxl_inpaint"].startswith("unusable: weights.sdxl_inpaint: the pipeline in ")
    assert "lacks vae/config.json" in broken["sdxl_inpaint"]
    assert none["sdxl_inpaint"] == "missing; to fetch it: semfacediff fetch sdxl_inpaint"
    assert none["inpaint"] == "none named; any inpainting pipeline will do: weights.inpaint=FOLDER|ID"
    assert "no pipeline of sdxl_inpaint (above)" not in whole["semfacediff edit"]
    assert all(s["semfacediff edit"].endswith("no pipeline of sdxl_inpaint (above)") for s in (broken, none))
    assert "pipeline" not in none["semfacediff edit --editor recolor"]


def test_json_has_the_same_facts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEMFACEDIFF_DATA", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["weights"]) == {"lpips_alexnet", "inception", "clip", "lpips_squeeze"}
    assert {w["state"] for w in found["weights"].values()} == {"missing"}
    assert found["data"]["SEMFACEDIFF_DATA"] == found["data"]["place"] == str(tmp_path)
    assert (found["data"]["there"], found["data"]["layout"]) == (True, None)
    assert found["devices"][-1]["device"] == "cpu"
    assert found["packages"]["torch"]
    assert found["commands"]["evaluate.py metrics=no_weights"]["missing_weights"] == []


def test_files_of_the_right_name_are_checked_by_digest(tmp_path, monkeypatch, capsys):
    for public in PUBLIC:
        (tmp_path / public.files[0].file).write_bytes(b"something else")
    found = doctor.examined(str(tmp_path))
    assert {w["state"] for w in found["weights"].values()} == {"another file"}
    assert found["commands"]["evaluate.py metrics=full"]["missing_weights"] == []
    assert found["commands"]["evaluate.py metrics=full"]["other_weights"] == ["lpips_alexnet", "inception", "clip"]
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("not the public one") == len(PUBLIC)
    digests = {public.files[0].file: public.files[0].sha256 for public in PUBLIC}
    monkeypatch.setattr(weights, "file_digest", lambda path: digests[path.name])
    assert {w["state"] for w in doctor.examined(str(tmp_path))["weights"].values()} == {"there"}


def missing(found):
    return {name: command["missing"] for name, command in found["commands"].items() if command["missing"]}


class TestData:
    @pytest.fixture
    def told(self, capsys):
        """(facts of ``data``, its line) for a folder, and what commands lack then of data."""

        def ask(root):
            assert main(["doctor", "--data", str(root)]) == 0
            line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("data: "))
            found = doctor.examined(None, str(root))
            lacking = {
                c for c, needs in missing(found).items() if set(needs) & {"data", "labelled data", "official data"}
            }
            return found["data"], line, lacking

        return ask

    def test_the_official_folder(self, tmp_path, told):
        write_official(tmp_path / "hq", range(3))
        (tmp_path / "hq" / "list_eval_partition.txt").unlink()
        facts, line, lacking = told(tmp_path / "hq")
        assert (facts["layout"], facts["photos"], facts["labels"]) == ("celebamask_hq", 3, True)
        assert line.endswith("data=celebamask_hq, 3 photos, without list_eval_partition.txt")
        assert lacking == set()

    def test_a_folder_without_labels(self, toy_folder, told):
        facts, line, lacking = told(toy_folder(2, masks=False))
        assert (facts["layout"], facts["labels"]) == ("folder", False)
        assert line.endswith("data=folder, 2 photos, no labels")
        assert lacking == {*OF_LABELS, "semfacediff prepare"}

    def test_shards(self, toy_shards, told):
        _, line, lacking = told(toy_shards(5, per_shard=2))
        assert line.endswith("data=shards, 3 tars")
        assert lacking == {"semfacediff prepare"}

    def test_what_is_none(self, tmp_path, told):
        assert told(tmp_path)[1].endswith("(no layout that is known: neither CelebA-HQ-img/, nor images/, nor tars)")
        facts, line, lacking = told(tmp_path / "nothing")
        assert line.endswith("nothing (no such folder)")
        assert not facts["there"]
        assert "train_parser.py" in lacking


class TestParsers:
    def test_a_named_parser_is_read_and_hashed(self, tiny_checkpoint, capsys):
        assert main(["doctor", "--checkpoint", str(tiny_checkpoint)]) == 0
        out = capsys.readouterr().out
        found = doctor.examined(None, checkpoint=str(tiny_checkpoint))
        (parser,) = found["parsers"]
        assert parser["digest"] == checkpoint_digest(tiny_checkpoint)
        assert f"fastscnn_lite, 64 px, label space celebamask, SHA-256 {parser['digest'][:8]}..." in out
        assert "semfacediff parse: photos, a parser (--checkpoint); ready" in out
        assert "semfacediff parse" not in missing(found)

    def test_one_that_cannot_be_used_is_told_why(self, tmp_path, tiny_checkpoint, capsys):
        shutil.copytree(tiny_checkpoint, tmp_path / "cut")
        (tmp_path / "cut" / "model.safetensors").unlink()
        for place, why in ((tmp_path / "cut", "model.safetensors is missing"), (tmp_path / "no", "nothing is at")):
            assert main(["doctor", "--checkpoint", str(place)]) == 0
            assert f"unusable: {'parser.checkpoint: ' * (place.name == 'no')}" in (out := capsys.readouterr().out)
            assert why in out
            assert missing(doctor.examined(None, checkpoint=str(place)))["semfacediff parse"] == ["parser"]

    def test_runs_of_the_checkout_are_found(self, tmp_path, tiny_checkpoint, monkeypatch):
        shutil.copytree(tiny_checkpoint, tmp_path / "outputs" / "train_parser" / "toy-1" / "checkpoints" / "best")
        (tmp_path / "outputs" / "train_parser" / "begun").mkdir()
        monkeypatch.setattr(doctor, "repository", lambda: tmp_path)
        (parser,) = doctor.examined(None)["parsers"]
        assert (parser["name"], parser["digest"], parser["error"]) == ("fastscnn_lite", None, None)

    def test_the_one_that_ships_comes_first(self, tmp_path, tiny_checkpoint, monkeypatch, capsys):
        monkeypatch.setattr(default, "FOLDER", tiny_checkpoint)
        monkeypatch.setattr(doctor, "repository", lambda: tmp_path)
        main(["doctor"])
        digest = checkpoint_digest(tiny_checkpoint)
        assert (
            f"{tiny_checkpoint} (ships with the package): fastscnn_lite, 64 px, label space celebamask, SHA-256 "
            f"{digest[:8]}..."
        ) in capsys.readouterr().out
        found = doctor.examined(None)
        assert [(p["shipped"], p["digest"]) for p in found["parsers"]] == [(True, digest)]
        assert "semfacediff parse" not in missing(found)

    def test_an_exported_one_names_its_backend(self, tiny_onnx, capsys):
        main(["doctor", "--checkpoint", str(tiny_onnx)])
        assert "face_lite, 32 px, label space celebamask, parser.backend=onnx, SHA-256" in capsys.readouterr().out


def test_tables_whose_runs_are_missing_name_the_command(tmp_path, repository, monkeypatch, capsys):
    assert "semfacediff tables" not in missing(doctor.examined(None))
    assert "recolor_strict" not in doctor.examined(None)["records"]["missing"]
    shutil.copytree(repository / "experiments" / "tables", tmp_path / "experiments" / "tables")
    monkeypatch.setattr(doctor, "repository", lambda: tmp_path)
    found = doctor.examined(None)
    assert missing(found)["semfacediff tables"] == ["records"]
    assert "evaluate.py" in found["records"]["missing"]["recolor_strict"]
    main(["doctor"])
    assert "  run recolor_strict is missing; make it with: SEMFACEDIFF_DATA=DIR python ev" in capsys.readouterr().out


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    (tmp_path / PUBLIC[0].files[0].file).write_bytes(b"0123456789")
    monkeypatch.setattr(fetch, "_HASHED_BYTES", 9)
    monkeypatch.setattr(fetch, "file_digest", lambda _: pytest.fail("read"))
    assert doctor.examined(str(tmp_path))["weights"]["lpips_alexnet"]["state"] == "unread"


def test_the_answer_needs_no_library_that_takes_seconds_to_import(tmp_path):
    """As a user starts it, in a process of its own."""
    code = (
        "import sys; from semfacediff.cli import main; main(['doctor', '--json']); "
        "print(sorted({'open_clip', 'lpips', 'torchvision', 'diffusers', 'transformers', 'timm'} & set(sys.modules)), "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert json.loads(done.stdout)["weights"]
    assert done.stderr.strip() == "[]"

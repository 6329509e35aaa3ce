"""``thesis --real`` on twins of the published files at toy size: killed, continued, sealed, imported, rendered."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semfacediff.cli import main
from semfacediff.commands.thesis import real as module
from semfacediff.commands.thesis.forecast import Forecast, memory_words
from semfacediff.commands.thesis.real_tables import write_real_tables
from semfacediff.data.toy_official import write_official
from semfacediff.errors import UserError
from semfacediff.records.ledger import read_index
from semfacediff.records.samples import SampleLog
from semfacediff.tasks.parsing import evaluate as evaluate_parsing

SMALL = (
    "runtime.device=cpu runtime.workers=0 working_size=64 editor.native_size=64 editor.steps=2 strips=0 "
    "attributes=[hair] metrics=no_weights metrics.columns=[ssim,iou,seam]"
).split()
RUNS = [
    *("thesis_real_parser/published", "thesis_real_parser/ours"),
    *(f"thesis_real_floors/{kind}" for kind in ("nothing", "vae_round_trip", "empty_prompt")),
    *("thesis_real_6_1", "thesis_real_seam/none", "thesis_real_seam/laplacian", "thesis_real_seam/poisson"),
]
"""In the order in which they are made."""


class Killed(BaseException):
    """In the place of SIGKILL: nothing in the program handles it."""


@pytest.fixture
def kit(published_parser, tiny_sdxl, hub_cache, tmp_path, monkeypatch) -> Callable[..., int]:
    """``kit(*words, n=2)``: the exit code of the command on drawn faces in the official layout."""
    for name in ("draw_scores", "_draw_strips"):
        monkeypatch.setattr(evaluate_parsing, name, lambda *_: None)
    hub_cache(module.PUBLISHED.id, published_parser)
    write_official(tmp_path / "faces, drawn", [0, 1, 2], 64, 32, groups=(2, 2, 2))

    def run(*words: str, n: int = 2, data: str = "faces, drawn") -> int:
        asked = ["thesis", "--real", "--n", str(n), "--data", str(tmp_path / data), "--out", str(tmp_path / "out")]
        return main([*asked, *SMALL, f"weights.root={tiny_sdxl}", *words])

    return run


@pytest.fixture
def killed_at(monkeypatch) -> Callable[[int], None]:
    """``killed_at(k)``: the program dies after its k-th row from now on."""
    left = [0]
    append = SampleLog.append

    def log(self, row):
        append(self, row)
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(SampleLog, "append", log)

    def after(rows: int) -> None:
        left[0] = rows

    return after


def rows(folder: Path) -> list[bytes]:
    return (folder / "samples.jsonl").read_bytes().splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_it_is_killed_twice_and_its_zip_is_imported_and_rendered(kit, killed_at, tmp_path, monkeypatch, capsys):
    out, reported = tmp_path / "out", []
    monkeypatch.setattr(module, "report", lambda folders, *_: reported.append(folders))  # it takes seconds
    for dies_after, in_run in ((5, "thesis_real_floors/nothing"), (4, "thesis_real_floors/empty_prompt")):
        killed_at(dies_after)
        with pytest.raises(Killed):
            kit()
        assert read_index(out / "runs")[in_run]["status"] == "crashed"
        half = rows(out / "runs" / in_run)
        assert len(half) == 1
    killed_at(-1)
    capsys.readouterr()
    assert kit() == 0
    said = capsys.readouterr().out
    assert [line.removesuffix(": finished") for line in said.splitlines() if line.endswith(": finished")] == RUNS[:4]
    assert rows(out / "runs" / "thesis_real_floors/empty_prompt")[:1] == half, "what the first sitting made is kept"
    assert re.search(r"forecast: \d+\.\d s an edit, about \d+ s for the 0 that are left; at most \d+\.\d GiB", said)
    assert {name: cell["status"] for name, cell in read_index(out / "runs").items()} == dict.fromkeys(RUNS, "done")
    record = json.loads((out / "runs" / "thesis_real_seam/none" / "run.json").read_text())
    assert (record["editor"]["of"], record["n"], record["n_failed"]) == ("sdxl_inpaint", 2, 0)
    assert "editor: random weights, for tests" in record["not_comparable"], "edits of twins stay edits of twins"
    assert record["command"].startswith("semfacediff evaluate experiment=thesis/table_6_1 protocol=strict")
    assert str(tmp_path) not in (out / "runs" / "thesis_real_seam/none" / "run.json").read_text()

    again = tmp_path / "again"
    assert main(["import", str(out / module.ZIP), "--into", str(again / "runs")]) == 0
    assert sorted(f.parent.relative_to(again / "runs").as_posix() for f in again.rglob("run.json")) == sorted(RUNS)
    assert main(["thesis", "--real", "--steps", "tables", "--out", str(again)]) == 0
    mine, theirs = ((folder / module.TABLES).read_text() for folder in (out, again))
    assert theirs.replace(str(again), str(out)) == mine
    assert "- not comparable: editor: random weights, for tests" in mine
    for said in ("ours", "the photo itself", "VAE round trip", "empty prompt", "published"):
        assert re.search(rf"\| hair +\| +{said} +\|", mine)
    assert "not made: " in mine, "a table of what is not comparable"
    assert "face_lite" in mine
    assert (again / module.ZIP).read_bytes() == (out / module.ZIP).read_bytes()
    assert [sorted(f.name for f in folders) for folders in reported] == [sorted(Path(r).name for r in RUNS)] * 2

    comparable = shutil.copytree(out / "runs", tmp_path / "comparable")
    for file in comparable.rglob("run.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"not_comparable": []}))
    write_real_tables(comparable, tmp_path / "tables.md")
    text = (tmp_path / "tables.md").read_text()
    assert "not made" not in text
    assert "not comparable" not in text
    for kind in (*module.FLOOR_KINDS, *module.SEAMS):
        assert re.search(rf"\| +{kind} +\|", text)


def test_what_a_hub_refuses_is_one_sentence_and_nothing_is_run(kit, hub_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    assert kit("--steps", "edits") == 2
    said = capsys.readouterr()
    assert said.out == "to be fetched, about 339.0 MB: jonathandinu/face-parsing 339.0 MB\n"
    assert said.err.startswith("error: jonathandinu/face-parsing: HF_HUB_OFFLINE or ")
    assert said.err.count("\n") == 1
    assert not list((tmp_path / "out").rglob("run.json"))


def test_all_that_is_missing_is_said_with_its_size(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(module, "fetch", lambda names: asked.extend(names) or 0)
    missing = {"fetch": "semfacediff fetch it"}
    weights = dict.fromkeys(("lpips_alexnet", "inception", "clip"), missing)
    found = {"weights": weights, "pipelines": {"sdxl_inpaint": missing}}
    found["public_parsers"] = {module.PUBLISHED.id: missing}
    assert module._fetched(module.STEPS, found, {"weights.inception": "FILE"}) == 0
    assert asked == ["lpips_alexnet", "clip", "sdxl_inpaint", module.PUBLISHED.id]
    assert "to be fetched, about 8,128.7 MB: lpips_alexnet 244.4 MB, clip 605.2 MB, sdxl_in" in capsys.readouterr().out
    asked.clear()
    module._fetched(("parser",), found, {})
    assert asked == [module.PUBLISHED.id]


@pytest.mark.slow
def test_one_photo_of_a_plain_folder_that_is_not_square(kit, tmp_path, capsys):
    (tmp_path / "own").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (80, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "own" / f"{i}.jpg")
    assert kit(n=1, data="own") == 0
    said = capsys.readouterr().out
    assert "parser: these photos have no labels, so no parser is scored on them" in said
    assert "forecast: " in said
    assert "thesis_real_6_1" in (tmp_path / "out" / "report" / "index.html").read_text()
    assert {*read_index(tmp_path / "out" / "runs")} == {*RUNS[2:]}
    assert kit(n=5, data="own") == 2, "another number of photos is another run"
    said = capsys.readouterr()
    assert "2 photos there, 5 asked for: all of them are taken" in said.out
    assert re.search("belongs to another configuration: config.data.n was 1, now 2", said.err)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_next_sitting_continues(kit, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("semfacediff.records.samples.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space")))
        assert kit("--steps", "floors") == 2
    assert re.search(r"^error: cannot write .*No space", capsys.readouterr().err, re.MULTILINE)
    assert kit("--steps", "floors") == 0


@pytest.mark.slow
def test_continued_or_not_the_rows_are_the_same(kit, killed_at, tmp_path):
    killed_at(1)
    with pytest.raises(Killed):
        kit("--steps", "edits")
    killed_at(-1)
    assert kit("--steps", "edits") == 0
    (tmp_path / "out").rename(tmp_path / "first")
    assert kit("--steps", "edits") == 0

    def scores(folder: Path) -> list[dict]:
        told = [json.loads(row) for row in rows(folder / "runs" / "thesis_real_6_1")]
        return [{k: v for k, v in row.items() if k not in ("latency_s", "peak_memory_mib")} for row in told]

    assert scores(tmp_path / "first") == scores(tmp_path / "out")


@pytest.mark.parametrize(
    ("mib", "words", "said"),
    [
        (24_000, [], ""),
        (16_160, [], ""),
        (15_109, ["runtime=low_memory"], r"GPU has 14\.8 GiB: runtime=low_memory is chosen, which needs about 5\.8 in"),
        (8_000, ["runtime=low_memory"], r"(?s)has 7\.8 GiB.*what fits here: one edit at a time at 1024 px"),
        (None, [], ""),
    ],
)
def test_memory_is_saved_where_it_is_short(capsys, mib, words, said):
    assert memory_words({"device": "cuda:0", "name": "GPU", "memory_mib": mib}, {}) == words
    printed = capsys.readouterr().out
    assert re.search(said, printed)
    assert bool(printed) == bool(words)
    assert memory_words({"device": "cuda:0", "name": "GPU", "memory_mib": mib}, {"runtime": "fast"}) == []


def test_a_device_that_cannot_do_it_is_one_sentence():
    small = {"device": "cuda:0", "name": "GPU", "memory_mib": 4096}
    with pytest.raises(UserError, match=r"GPU has 4\.0 GiB, SDXL .* about 5\.8; what fits: --steps parser,tables, or"):
        memory_words(small, {})
    assert memory_words(small, {"runtime.diffusion.quantise": "int8"}) == ["runtime=low_memory"]
    processor = {"device": "cpu", "name": "2 cores", "memory_mib": 16_000}
    with pytest.raises(UserError, match=r"need an accelerator, and this machine has none; use one of at least 8 GB"):
        memory_words(processor, {})
    assert memory_words(processor, {"runtime.device": "cpu"}) == []


def test_the_forecast_is_of_the_first_edits(capsys):
    forecast = Forecast(first=2, left=62, memory_mib=15_360)
    for latency, peak in ((10.0, 5_120), (20.0, 6_144), (99.0, 9_000)):
        forecast.heard({"latency_s": latency, "peak_memory_mib": peak})
    told = "forecast: 15.0 s an edit, about 15 min for the 60 that are left; at most 6.0 GiB of memory of 15.0\n"
    assert capsys.readouterr().out == told
    assert Forecast(1, 1, None).sentence() == "", "nothing was edited"


def test_mistakes_are_one_sentence(tmp_path, capsys):
    for words, said in (
        (["--real", "--steps", "edit"], "--steps edit: expected some of parser,floors,edits,tables"),
        (["--n", "3"], "--n is for --real; add it, or write data.n=N"),
        (["--real", "--data", str(tmp_path / "none"), "runtime.device=cpu"], "no photos at SEMFACEDIFF_DATA"),
    ):
        assert (
            main(["thesis", *words, "--out", str(tmp_path / "out")] if "--real" in words else ["thesis", *words]) == 2
        )
        assert said in capsys.readouterr().err

"""Runs, checkpoints, caches and sweeps of an earlier version are read, continued, compared and merged.

``fixtures/earlier_version/README.md`` says how they were made. Everything goes through the command and the few names
that stay importable, so that modules may move.
"""

import functools
import importlib.util
import json
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from semfacediff import cli
from semfacediff.parsing.checkpoint import checkpoint_digest

FIXTURE = Path(__file__).resolve().parent / "fixtures" / "earlier_version"
_spec = importlib.util.spec_from_file_location("commands_of_an_earlier_version", FIXTURE / "commands.py")
commands = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(commands)
COMMANDS, FOLDERS, MERGED = commands.COMMANDS, commands.FOLDERS, commands.MERGED

TRAININGS = ("parser training", "first stage training", "diffusion training")
EVALUATIONS = ("editing", "cascade", "parsing", "synthesis")
NEEDS = {
    "diffusion training": ["first stage training"],
    "parsing": ["parser training"],
    "parsing part 0": ["parser training"],
    "parsing part 1": ["parser training"],
    "synthesis": ["parser training", "diffusion training"],
}
"""Command -> those whose finished runs it reads."""


@functools.cache
def archive() -> dict[str, bytes]:
    """Path in ``runs.tar.xz`` -> contents."""
    with tarfile.open(FIXTURE / "runs.tar.xz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def unpacked(place: str, target: Path) -> Path:
    """A copy of a folder of the archive at ``target``."""
    files = {name.removeprefix(f"{place}/"): data for name, data in archive().items() if name.startswith(f"{place}/")}
    assert files, place
    for name, data in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Callable[..., Path]:
    """``workplace(state, name)``: the folder of a command's run, in the state ``finished`` or ``unfinished``.

    It lies below the current folder, beside the finished runs that the command reads; the cache is that of then.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(unpacked("cache", tmp_path / "cache")))
    # Pictures are no part of what is compared, and encoding them takes longer than everything else.
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: Path(file).touch())
    unpacked("inputs", tmp_path / "inputs")

    def copied(state: str, name: str) -> Path:
        for needed in NEEDS.get(name, []):
            unpacked(f"finished/{FOLDERS[needed]}", tmp_path / FOLDERS[needed])
        return unpacked(f"{state}/{FOLDERS[name]}", tmp_path / FOLDERS[name])

    return copied


@pytest.fixture
def whole(tmp_path) -> Callable[[str], Path]:
    """``whole(name)``: the finished run of a command, aside from where it is looked for."""
    return lambda name: unpacked(f"finished/{FOLDERS[name]}", tmp_path / "whole")


def semfacediff(*words: str) -> None:
    """Run a command, which must succeed."""
    with mock.patch.dict(os.environ), mock.patch.object(sys, "argv", sys.argv):  # both are set for the run
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as e:  # the three scripts leave so
            code = e.code
    assert code == 0


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.rglob("*") if f.is_file()
    }


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def rows(folder: Path) -> set[str]:
    return set((folder / "samples.jsonl").read_text().splitlines())


def same_table(ours: pd.DataFrame, theirs: pd.DataFrame, **tolerance: float) -> None:
    """Equal but for the columns of time and memory, numbers within ``tolerance``."""
    varying = ["latency_s", "latency_s_median", "peak_memory_mib"]
    tables = [table.drop(columns=varying, errors="ignore") for table in (ours, theirs)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, **tolerance)


EXACT = {"rtol": 1e-9, "atol": 1e-10}
"""Of the same numbers in double precision, summed up to 2048 at a time and of magnitude 1 before they cancel (KID);
``summary.csv`` has ten digits."""
TOLERANCES = {
    # Between processors a pixel whose composite lies between two 8-bit levels may become the other one: in a window of
    # 7 x 7 that moves the SSIM by 1e-3 at most, and 49 of about 600 windows have the pixel.
    "editing": {"rtol": 1e-3, "atol": 1e-4},
    "cascade": {"rtol": 1e-3, "atol": 1e-4},
    # The judging network computes in single precision: pixels where two classes are almost as likely may change, 4 of
    # 4 x 32 x 32 and of the 1,200 that a class has.
    "parsing": {"rtol": 5e-3, "atol": 5e-3},
    "synthesis": {"rtol": 5e-3, "atol": 5e-3},
    # A few steps of AdamW, which divides small gradients by their own size, so that it magnifies rounding; in the
    # parser with batch norms over three values. Starting anew ends 20 % away there.
    "parser training": {"rtol": 2e-2, "atol": 2e-3},
    # Here a latent that lies between two codes of the book may take the other one.
    "first stage training": {"rtol": 5e-2, "atol": 0.0},
    "diffusion training": {"rtol": 2e-3, "atol": 0.0},
}
"""Of an earlier version's numbers, which another machine made."""


def printed_number(name: str, folder: Path) -> str:
    """One that the table of a finished run shows."""
    if name in TRAININGS[1:]:
        return f"{pd.read_csv(folder / 'history.csv')['val_loss'].iloc[-1]:.4f}"
    summary = pd.read_csv(folder / "summary.csv")
    if name in ("editing", "cascade"):
        return f"{summary['seam_mean'][0]:.3f}"
    row, column = ("reconstruction", "miou") if name == "synthesis" else ("miou", "iou")
    return f"{100 * summary.set_index(summary.columns[0]).at[row, column]:.2f}"


def seldom(names: Iterable[str], *slow: str) -> list:
    """``names`` as parameters, some of them of slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.mark.parametrize("name", seldom(EVALUATIONS + TRAININGS, "cascade", "first stage training"))
def test_a_finished_run_prints_its_table_and_changes_nothing(name, workplace, tmp_path, capsys):
    folder = workplace("finished", name)
    before = contents(tmp_path)
    semfacediff(*COMMANDS[name])
    assert printed_number(name, folder) in capsys.readouterr().out
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", seldom(EVALUATIONS, "cascade"))
def test_an_unfinished_run_ends_with_the_numbers_of_one_in_one_piece(name, workplace, whole):
    folder = workplace("unfinished", name)
    end = whole(name)
    kept, begun = rows(folder), record(folder)
    assert 0 < len(kept) < len(rows(end))
    semfacediff(*COMMANDS[name])
    assert kept < rows(folder), "what was there is kept to the byte"
    run = record(folder)
    assert (begun["status"], run["status"], run["started"]) == ("running", "done", begun["started"])
    assert list(folder.parent.iterdir()) == [folder], "nothing was begun anew"
    same_table(pd.read_csv(folder / "summary.csv"), pd.read_csv(end / "summary.csv"), **TOLERANCES[name])
    samples = [pd.read_parquet(place / "samples.parquet") for place in (folder, end)]
    digests = [c for c in samples[0] if c == "edit_sha256"]  # of pixels, see the tolerance
    numbers = [s.drop(columns=digests).select_dtypes(["number"]) for s in samples]
    same_table(*numbers, **TOLERANCES[name])
    words = [s[["sample_id", "status"]] for s in samples]
    pd.testing.assert_frame_equal(*words)


@pytest.mark.parametrize("name", TRAININGS)
def test_an_interrupted_training_continues_from_its_checkpoint(name, workplace, whole, tmp_path):
    folder = workplace("unfinished", name)
    end = whole(name)
    begun, history, cache = record(folder), pd.read_csv(folder / "history.csv"), contents(tmp_path / "cache")
    semfacediff(*COMMANDS[name])
    run = record(folder)
    assert (begun["status"], run["status"], run["started"]) == ("running", "done", begun["started"])
    continued, uninterrupted = (pd.read_csv(place / "history.csv")[list(history)] for place in (folder, end))
    pd.testing.assert_frame_equal(continued[: len(history)], history, check_exact=True, check_dtype=False)
    # The checkpoint's weights are not those of the first half (README.md), so starting anew would end elsewhere.
    same_table(continued, uninterrupted, **TOLERANCES[name])
    done, best = ("epochs_done", "best_epoch") if name == "parser training" else ("steps_done", "best_step")
    assert [run[done], run[best]] == [record(end)[done], record(end)[best]]
    there = {tmp_path / FOLDERS[n] for n in (name, *NEEDS.get(name, []))}
    assert set(folder.parent.iterdir()) == there, "nothing was begun anew"
    assert contents(tmp_path / "cache") == cache, "pixel counts, prepared photos and latents are used as they are"


@pytest.mark.parametrize("name", MERGED)
def test_parts_are_merged(name, workplace, whole, tmp_path, capsys):
    parts = [workplace("finished", f"{name} part {k}") for k in range(2)]
    earlier = unpacked(f"finished/{MERGED[name]}", tmp_path / MERGED[name])
    before = contents(earlier)
    semfacediff("merge", *parts, "--out", earlier)
    assert contents(earlier) == before, "what was merged then is finished"
    shown = capsys.readouterr().out
    semfacediff("merge", *parts, "--out", tmp_path / "merged")
    assert capsys.readouterr().out.replace(str(tmp_path / "merged"), str(earlier)) == shown
    end = earlier if name == "features" else whole(name)
    for table in {"editing": ["leakage.csv"], "parsing": ["confusion.csv"], "features": []}[name] + ["summary.csv"]:
        same_table(*(pd.read_csv(place / table) for place in (tmp_path / "merged", end)), **EXACT)
    if name == "features":
        assert pd.read_csv(tmp_path / "merged" / "summary.csv")["kid"].notna().all()


@pytest.mark.parametrize("task", seldom(["editing", "parsing"], "parsing"))
def test_a_part_of_then_is_merged_with_one_of_now(task, workplace, whole, tmp_path):
    first = workplace("finished", f"{task} part 0")
    semfacediff(*COMMANDS[f"{task} part 1"])
    semfacediff("merge", tmp_path / FOLDERS[f"{task} part 1"], first, "--out", tmp_path / "merged")
    end = whole(task)
    same_table(*(pd.read_csv(f / "summary.csv") for f in (tmp_path / "merged", end)), **TOLERANCES[task])


def test_a_stopped_sweep_goes_on_with_the_same_command(workplace, whole, capsys):
    sweep = workplace("unfinished", "sweep")
    status = {name: cell["status"] for name, cell in json.loads((sweep / "sweep.json").read_text())["cells"].items()}
    assert sorted(status.values()) == ["done", "interrupted"], "of three cells"
    done, broken = sorted(status, key=status.get)
    before, kept = contents(sweep / done), rows(sweep / broken)
    semfacediff(*COMMANDS["sweep"])
    end = whole("sweep")
    cells = json.loads((sweep / "sweep.json").read_text())["cells"]
    for cell in cells.values():
        cell["overrides"] = [word for word in cell["overrides"] if word != commands.COLUMNS]
    assert cells == json.loads((end / "sweep.json").read_text())["cells"]
    assert sorted(f.name for f in sweep.glob("*/")) == sorted(cells)
    assert contents(sweep / done) == before
    assert kept < rows(sweep / broken)
    for name in cells:
        tables = (pd.read_csv(place / name / "summary.csv") for place in (sweep, end))
        same_table(*tables, **TOLERANCES["editing"])
    (new,) = cells.keys() - status.keys()
    capsys.readouterr()
    semfacediff("compare", sweep / done, sweep / new)
    assert "ssim" in capsys.readouterr().out.lower()


def test_records_are_compared_grouped_drawn_and_shown(workplace, whole, tmp_path, capsys):
    runs = [workplace("finished", name) for name in ("editing", "cascade", "parsing", "synthesis", "parser training")]
    editing, _, parsing, *_ = runs
    before = contents(tmp_path)
    semfacediff("compare", editing, whole("editing"))
    semfacediff("strata", editing, "--by", "region_size")
    semfacediff("leakage", editing)
    semfacediff("figures", editing, parsing, "--out", tmp_path / "figures")
    semfacediff("report", *runs, "--out", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert all(
        printed_number(name, run) in page for name, run in zip(("editing", "parsing"), (editing, parsing), strict=True)
    )
    semfacediff("track", "sync", editing, "--mode", "offline")
    assert contents(tmp_path).items() >= before.items(), "reading changes nothing, and W&B has it all"


def test_a_checkpoint_has_the_digest_of_then(workplace, tmp_path):
    run = record(workplace("finished", "parsing"))
    digest = checkpoint_digest(tmp_path / FOLDERS["parser training"] / "checkpoints" / "best")
    assert digest == run["parser"]["digest"] == run["identity"]["inputs"]["parser"]


def test_the_archive_names_no_machine():
    texts = (".json", ".yaml", ".jsonl", ".csv")
    for name, data in archive().items():
        assert not [place for place in (b"/tmp/", b"/home/", b"/root/") if place in data], name
        assert not name.endswith(texts) or re.findall(rb"[\"' =]/(?:\w[\w.-]*/)+", data) == [], name

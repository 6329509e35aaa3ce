"""Tables of runs and sweeps wherever they lie."""

import json
import shutil
import subprocess

import pandas as pd
import pytest

from semfacediff import cli
from semfacediff.errors import UserError
from semfacediff.tables.formats import rendered
from semfacediff.tables.labels import parameter_labels
from semfacediff.tables.own import own_grid

from .conftest import edits


def tables(*words) -> int:
    return cli.main(["tables", *map(str, words)])


def test_labels():
    keys = ["region.feather_sigma_px", "optim.encoder_lr", "seed", "editor.strength", "a.b.size", "train.size"]
    assert parameter_labels(keys) == (
        *("feather sigma (px)", "encoder learning rate", "seed", "strength"),
        *("a b size", "train size"),
    )
    assert parameter_labels(["px"]) == ("px",)


def test_a_sweep(sweep, capsys):
    assert tables(sweep) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"# editing: {sweep.name}\n")
    assert "| attribute | feather sigma (px) |  n |" in out
    grid = own_grid([sweep])
    assert [c.name for c in grid.columns] == ["n", "ssim", "seam", "latency_s"], "what was measured"


def test_the_significantly_best_is_marked(tmp_path, edited_run):
    for k, (seam, shift) in enumerate([("none", 0.2), ("poisson", 0.0)]):
        edited_run(tmp_path / str(k), edits(30, shift, seed=k), seam=seam)
    best = {row.labels: row.cells[1].best for row in own_grid([tmp_path]).rows}
    assert [labels for labels, won in best.items() if won] == [(g, "none") for g in ("all", "hair", "lips")]


def test_several_folders_are_the_sweep_of_them(sweep):
    assert own_grid([*sweep.iterdir()]).rows == own_grid([sweep]).rows


def test_a_setting_that_was_run_twice_stands_there_twice(tmp_path, edited_run):
    for name, sigma in (("a", 3.0), ("b", 3.0), ("c", 7.0)):
        edited_run(tmp_path / name, edits(5), region={"feather_sigma_px": sigma})
    grid = own_grid([tmp_path])
    assert grid.labels == ("attribute", "feather sigma (px)", "run")
    assert [row.labels[1:] for row in grid.rows[:3]] == [("3.0", "a"), ("3.0", "b"), ("7.0", "c")]


def test_columns_notes_and_file(sweep, tmp_path, capsys):
    out = tmp_path / "mine.tex"
    assert tables(sweep, "--columns", "seam,ssim", "--notes", "none", "--out", out) == 0
    assert capsys.readouterr().out.strip() == str(out)
    text = out.read_text()
    assert text == rendered(own_grid([sweep], ["seam", "ssim"], "none"), "tex")
    assert r"attribute & feather sigma (px) & n & seam" in text
    assert r"\par" not in text
    assert tables(sweep, "--columns", "ssmi") == 2
    assert "--columns: unknown metric ssmi; the known ones are" in capsys.readouterr().err
    assert tables(sweep, "--out", tmp_path / "mine.doc") == 2
    assert "expected a file .md, .tex or .csv" in capsys.readouterr().err


def test_one_run(tmp_path, edited_run):
    run = edited_run(tmp_path / "run", edits(5), data={"name": "toy"})
    grid = own_grid([run])
    summary = pd.read_csv(run / "summary.csv")
    assert [c.name for c in grid.columns] == ["n", "ssim", "seam", "latency_s_median"]
    assert [row.cells[1].mean for row in grid.rows if row.labels[0] == "hair"] == [summary["ssim_mean"][0]]
    assert [c.name for c in own_grid([run], ["seam"]).columns] == ["n", "seam"]


def test_half_a_sweep_and_none(tmp_path, edited_run):
    edited_run(tmp_path / "s" / "a", edits(5), region={"feather_sigma_px": 3.0})
    edited_run(tmp_path / "s" / "b", edits(5), status="incomplete", region={"feather_sigma_px": 7.0})
    grid = own_grid([tmp_path / "s"])
    assert {row.labels for row in grid.rows} == {(g, "a") for g in ("all", "hair", "lips")}
    assert "unfinished and left out: b; the command continues them" in grid.notes
    shutil.rmtree(tmp_path / "s" / "a")
    with pytest.raises(UserError, match="no run is finished; continue with: "):
        own_grid([tmp_path / "s"])
    with pytest.raises(UserError, match=r"run\.json: not a run's record"):
        own_grid([tmp_path / "nowhere"])


def test_a_run_that_is_not_comparable_stands_there_and_says_so(tmp_path, edited_run):
    for name, sigma, doubts in (("a", 3.0, []), ("b", 7.0, ["lpips: weights random"])):
        edited_run(tmp_path / name, edits(5), {"not_comparable": doubts}, region={"feather_sigma_px": sigma})
    grid = own_grid([tmp_path / "a", tmp_path / "b"])
    assert "b is not comparable: lpips: weights random" in grid.notes
    assert "not comparable: lpips: weights random" in own_grid([tmp_path / "b"]).notes


def test_empty_columns_are_one_note_unless_all_are_asked_for(tmp_path, edited_run):
    facts = {"empty_columns": {"lpips": "/a/path is missing", "clip": "/b is missing"}}
    for name, sigma in (("a", 3.0), ("b", 7.0)):
        edited_run(tmp_path / name, edits(5), facts, region={"feather_sigma_px": sigma})
    short = own_grid([tmp_path / "a", tmp_path / "b"]).notes
    assert [n for n in short if "lpips" in n] == [
        "not measured: lpips, clip; semfacediff doctor says what is missing, semfacediff rescore fills them"
    ]
    assert not any("/a/path" in n for n in short)
    assert "column lpips is empty: /a/path is missing" in own_grid([tmp_path / "a", tmp_path / "b"], (), "full").notes
    assert own_grid([tmp_path / "a"], (), "none").notes == []


def test_runs_of_other_photos_are_refused(tmp_path, edited_run):
    for name in "ab":
        edited_run(tmp_path / name, edits(5), region={"feather_sigma_px": 3.0})
    run = json.loads((tmp_path / "b" / "run.json").read_text())
    run["identity"]["inputs"]["data"] = "other"
    (tmp_path / "b" / "run.json").write_text(json.dumps(run | {"files": {}}))
    with pytest.raises(UserError, match="data"):
        own_grid([tmp_path / "a", tmp_path / "b"])


def test_names_and_folders_do_not_mix(sweep, capsys):
    assert tables(sweep, "thesis_6_1") == 2
    assert "name folders of runs, or tables of experiments/tables" in capsys.readouterr().err
    assert tables("ce7454_table_1", "--notes", "none") == 2
    assert "--notes is for folders of runs, and none of ce7454_table_1 is one" in capsys.readouterr().err


def test_a_named_table_offers_the_users_own_sweep(sweep, tmp_path, monkeypatch, capsys, repository):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sweep, tmp_path / "outputs" / "editing" / "feather_sigma")
    before = (repository / "results" / "tables" / "ablation_feather_sigma.md").read_text()
    assert tables("ablation_feather_sigma") == 0
    assert "your own sweep: semfacediff tables outputs/editing/feather_sigma" in capsys.readouterr().err
    assert (repository / "results" / "tables" / "ablation_feather_sigma.md").read_text() == before


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdfLaTeX is not installed")
def test_latex_compiles_with_any_name(tmp_path, edited_run):
    for k, prompt in enumerate([r"50% $x^2$ \textbf{a} & #1 _b_ ~c^ {d}", 'red "hair" 🦊 <b>']):
        edited_run(tmp_path / str(k), edits(5, seed=k), prompts={"hair": prompt})
    table = rendered(own_grid([tmp_path / "0", tmp_path / "1"]), "tex")
    text = "\n".join([r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}\begin{document}", table])
    (tmp_path / "t.tex").write_text(text + r"\end{document}")
    done = subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:]

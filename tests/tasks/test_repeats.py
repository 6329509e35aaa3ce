"""Several edits of every photo: their seeds, their rows, the spread within and between photos."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.editing.control import Control
from semfacediff.errors import UserError

TOY = (
    "data=toy data.count=4 data.size=48 parser=ground_truth attributes=[hair,lips] metrics=no_weights strips=1 "
    "metrics.columns=[effect,ssim,psnr] prompts.hair=blue_hair runtime.device=cpu runtime.workers=0"
).split()
NOISE = "editor=control", "editor.kind=region_noise"
VARYING = ["latency_s", "peak_memory_mib"]


@pytest.fixture(scope="module")
def settings(compose) -> Callable[..., config.EditingEvaluation]:
    return lambda *overrides: config.typed(compose("evaluate", *TOY, *overrides), config.EditingEvaluation)


def rows_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").drop(columns=VARYING)


def assert_same(a: Path, b: Path) -> None:
    pd.testing.assert_frame_equal(rows_of(a), rows_of(b), check_exact=True)
    tables = [pd.read_csv(f / "summary.csv", dtype=str).drop(columns="latency_s_median") for f in (a, b)]
    pd.testing.assert_frame_equal(*tables)


@pytest.fixture(scope="module")
def thrice(tmp_path_factory, settings) -> Path:
    folder = tmp_path_factory.mktemp("thrice") / "run"
    assert tasks.start(settings(*NOISE, "editor.repeats=3"), folder) == 0
    return folder


def test_the_first_edits_are_those_of_a_run_without_repeats(settings, thrice, tmp_path):
    assert tasks.start(settings(*NOISE), tmp_path / "once") == 0
    rows, once = rows_of(thrice), rows_of(tmp_path / "once")
    assert set(rows.groupby(["sample_id", "attribute"])["repeat"].apply(tuple)) == {(1, 2, 3)}
    first = rows[rows["repeat"] == 1].drop(columns="repeat").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, once)
    assert not rows["seed"].duplicated().any()
    assert "repeat" not in once
    assert "repeats" not in json.loads((tmp_path / "once" / "run.json").read_text())["identity"]["config"]["editor"]
    files = {f.parent.name for f in (thrice / "edits").glob("*/*.png")}
    assert files == {f"{a}_{k}" for a in ("hair", "lips") for k in (1, 2, 3)}
    assert {f.stem for f in (thrice / "figures").glob("*.png")} == {"hair", "lips", "overview"}


def test_under_the_thesis_every_photo_shares_the_seed_of_a_repeat(settings, tmp_path):
    words = "protocol=thesis", "working_size=48", "editor.repeats=2", "attributes=[hair]"
    assert tasks.start(settings(*NOISE, *words), tmp_path) == 0
    seeds = rows_of(tmp_path).groupby("repeat")["seed"].unique()
    assert seeds.loc[1].tolist() == [42]
    assert len(seeds.loc[2]) == 1
    assert seeds.loc[2][0] != 42


def test_the_table_shows_the_spread_between_and_within_photos(settings, thrice, capsys):
    summary = pd.read_csv(thrice / "summary.csv").set_index("attribute")
    for attribute, of_attribute in rows_of(thrice).groupby("attribute"):
        values = of_attribute.pivot(index="sample_id", columns="repeat", values="change_de").to_numpy()
        assert values.shape == (4, 3)
        row = summary.loc[attribute]
        assert row["change_de_mean"] == pytest.approx(values.mean())
        assert row["change_de_sd"] == pytest.approx(np.std(values.mean(1), ddof=1))
        assert row["change_de_sd_within"] == pytest.approx(np.sqrt(np.mean(np.var(values, axis=1, ddof=1))))
        assert row["change_de_sd_within"] > 0
        assert row[["n", "n_photos", "n_expected"]].tolist() == [12, 4, 12]
    assert tasks.start(settings(*NOISE, "editor.repeats=3"), thrice) == 0
    printed = capsys.readouterr().out
    assert " (within " in printed
    assert "3 edits of every photo: ± is the deviation between the photos' means" in printed
    assert "equal to the bit" not in printed


def test_a_comparison_counts_photos(settings, thrice, tmp_path, capsys):
    assert tasks.start(settings("editor=recolor", "editor.repeats=2"), tmp_path / "recolor") == 0
    printed = capsys.readouterr().out
    assert "equal to the bit in 8 of 8 cases: the editor draws nothing from its seed" in printed
    assert (pd.read_csv(tmp_path / "recolor" / "summary.csv").filter(like="change_de_sd_within") == 0).all(axis=None)
    assert main(["compare", str(thrice), str(tmp_path / "recolor"), "--score", "change_de"]) == 0
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| hair")]
    assert [line[3].strip() for line in lines] == ["4"]
    means = [rows_of(f).query("attribute == 'hair'")["change_de"].mean() for f in (thrice, tmp_path / "recolor")]
    assert [float(line) for line in lines[0][4:6]] == pytest.approx(means, abs=1e-4)


@pytest.mark.parametrize("stop_at", [pytest.param(1, marks=pytest.mark.slow), 14])
def test_an_interrupted_run_ends_with_the_same_numbers(settings, thrice, tmp_path, monkeypatch, stop_at):
    edit, seen = Control.edit, []

    def stopping(self, requests):
        seen.append(requests)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return edit(self, requests)

    run = settings(*NOISE, "editor.repeats=3", "runtime.batch_size=1")
    monkeypatch.setattr(Control, "edit", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(run, tmp_path)
    assert tasks.start(run, tmp_path) == 0
    assert len(seen) <= 25
    assert_same(tmp_path, thrice)


@pytest.mark.slow
def test_shards_are_merged_into_the_same_record(settings, thrice, tmp_path, capsys):
    parts = [tmp_path / f"part{k}" for k in range(2)]
    for k, part in enumerate(parts):
        assert tasks.start(settings(*NOISE, "editor.repeats=3", f"shard={{index: {k}, count: 2}}"), part) == 0
    capsys.readouterr()
    assert main(["merge", *map(str, parts), "--out", str(tmp_path / "merged")]) == 0
    assert " (within " in capsys.readouterr().out
    assert_same(tmp_path / "merged", thrice)
    runs = [json.loads((f / "run.json").read_text()) for f in (tmp_path / "merged", thrice)]
    assert runs[0]["repeats"] == runs[1]["repeats"] == {"of_each": 3, "edited": 8, "equal": 0}


@pytest.mark.slow
def test_edits_made_elsewhere_are_read_by_the_stated_layout(settings, thrice, tmp_path):
    words = "editor=precomputed", f"+editor.root={thrice / 'edits'}", "editor.repeats=3"
    assert tasks.start(settings(*words), tmp_path / "read") == 0
    ours, made = rows_of(tmp_path / "read"), rows_of(thrice)
    same = ["sample_id", "attribute", "repeat", "edit_sha256", "change_de", "status"]
    pd.testing.assert_frame_equal(ours[same], made[same])
    assert ours["inputs_sha256"].nunique() == 24
    with pytest.raises(UserError, match=r"no folder hair_4, lips_4 in .*; expected <root>/<attribute>_<1 to 4>/<id>"):
        tasks.start(settings(*words[:2], "editor.repeats=4"), tmp_path / "four")
    with pytest.raises(UserError, match=r"no folder hair, lips in .*; expected <root>/<attribute>/<id>\.png"):
        tasks.start(settings(*words[:2]), tmp_path / "one")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["editor.repeats=0"], r"editor\.repeats: .* greater than or equal to 1"),
        (
            ["parser=precomputed", "+parser.root=x"],
            r"editor\.repeats=2: parser=precomputed has one parse .*judge=",
        ),
        (["cascade={stages:[{attribute:hair,prompt:x}]}"], r"cascade: editor\.repeats=2 makes edits of one photo"),
    ],
)
def test_what_cannot_be_repeated_is_refused(settings, words, said):
    with pytest.raises(UserError, match=said):
        settings("editor.repeats=2", *words)

"""What is printed and drawn of strata, leakage and comparisons."""

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.records.comparing import paired_differences
from semfacediff.records.pairing import PairedRuns
from semfacediff.records.strata import by_stratum, gaps, strata_of
from semfacediff.tables.comparison import comparison_report, comparison_table
from semfacediff.tables.leakage import disturbed, leakage_figure, leakage_markdown, read_leakage
from semfacediff.tables.strata import strata_figure, strata_report, strata_table

LEAKAGE = pd.DataFrame(
    [
        ("hair", "skin", "skin", 900),
        ("hair", "skin", "hair", 75),
        ("hair", "skin", "nose", 25),
        ("hair", "nose", "nose", 50),
        ("lips", "hair", "hair", 400),
        ("lips", "skin", "skin", 100),
        ("lips", "skin", "neck", 100),
    ],
    columns=["attribute", "before", "after", "pixels"],
)


def cells(markdown):
    return [[c.strip() for c in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("|")]


def scores(n=40, shift=0.0, seed=0):
    random = np.random.default_rng(seed)
    made = {"sample_id": [f"{i:02d}" for i in range(n)], "attribute": "hair", "ita_deg": [50.0] * 30 + [0.0] * (n - 30)}
    return pd.DataFrame(made | {"ssim": shift + np.random.default_rng(9).random(n) + 0.05 * random.random(n)})


# --- leakage ---------------------------------------------------------------------------------------------------------


def test_disturbed_classes_are_counted_and_sorted():
    rows = disturbed(LEAKAGE).set_index(["attribute", "class"])
    assert list(rows.index) == [("hair", "skin"), ("hair", "nose"), ("lips", "skin"), ("lips", "hair")]
    assert rows.loc[("hair", "skin"), ["pixels", "lost", "share"]].tolist() == [1000, 100, 0.1]
    assert rows.loc[("hair", "skin"), "became"] == "hair 75 %, nose 25 %"
    assert rows.loc[("lips", "hair"), "share"] == 0


def test_the_table_leaves_out_what_was_not_disturbed():
    assert [row[:2] for row in cells(leakage_markdown(LEAKAGE))[2:]] == [["hair", "skin"], ["lips", "skin"]]
    assert [row[:2] for row in cells(leakage_markdown(LEAKAGE, "lips"))[2:]] == [["lips", "skin"]]


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_the_heat_map_is_drawn(tmp_path, suffix):
    file = tmp_path / "figures" / f"leakage.{suffix}"
    leakage_figure(LEAKAGE, "a $run$", file)
    assert file.stat().st_size > 5_000
    if suffix == "png":
        assert len(np.unique(matplotlib.image.imread(file)[..., :3].reshape(-1, 3), axis=0)) > 50


def test_a_run_without_leakage_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no leakage\.csv; run evaluate\.py with metrics\.columns"):
        read_leakage(tmp_path)
    (tmp_path / "leakage.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column attribute, before, after, pixels"):
        read_leakage(tmp_path)


# --- strata ----------------------------------------------------------------------------------------------------------


def test_small_strata_stand_in_parentheses():
    samples = scores()
    rows = by_stratum(samples, strata_of(samples, "skin_tone"), ["ssim"])
    shown = {row[1]: row for row in cells(strata_table(rows))[2:]}
    assert shown["light"][2] == "30"
    assert shown["(brown)"][2] == "(10)"
    assert shown["(brown)"][3].startswith("(")
    assert shown["(dark)"][2:] == ["(0)", ""]


def test_a_score_with_fewer_values_says_how_many():
    samples = scores(30)
    samples.loc[:4, "ssim"] = np.nan
    samples["iou"] = 0.5
    shown = cells(strata_table(by_stratum(samples, strata_of(samples, "skin_tone"), ["ssim", "iou"])))
    light = next(row for row in shown if row[1] == "light")
    assert light[3].endswith("n=25")
    assert "n=" not in light[4]


def test_the_report_explains_itself():
    samples = scores()
    strata = strata_of(samples, "skin_tone")
    rows = by_stratum(samples, strata, ["ssim"])
    text = strata_report(strata, rows, gaps(samples, strata, {"ssim": True}), ["clip"])
    assert "no two strata of 20 samples" in text
    assert "in parentheses: fewer than 20 photos" in text
    assert "strata: ITA of the skin" in text
    assert "no gap of clip" in text


def test_the_figure_shows_small_strata_in_grey(tmp_path):
    samples = scores()
    strata_figure(by_stratum(samples, strata_of(samples, "skin_tone"), ["ssim"]), "run", tmp_path / "s.png")
    pixels = np.rint(255 * matplotlib.image.imread(tmp_path / "s.png")[..., :3]).astype(int).reshape(-1, 3)
    for colour in ((0x9A, 0x9A, 0x9A), (0x00, 0x72, 0xB2)):
        assert (pixels == colour).all(1).sum() > 20


# --- comparisons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "up", "said"),
    [(0.5, True, "**second**"), (0.5, False, "**first**"), (-0.5, True, "**first**"), (0.0, True, ""), (0.5, None, "")],
)
def test_only_significant_differences_are_bold(shift, up, said):
    table = paired_differences(scores(), scores(shift=shift, seed=1), ["ssim"])
    assert cells(comparison_table(table, {"ssim": up}))[2][-1] == said


def test_the_report_names_runs_method_and_settings():
    samples = scores(), scores(shift=0.1).assign(psnr=np.inf)
    samples = samples[0].assign(psnr=np.inf), samples[1]
    runs = {"run_id": "a"}, {"run_id": "b"}
    pairs = PairedRuns(runs, samples, {"ssim": True, "psnr": True}, ["composite was 'exact', now 'off'"], ["a note"])
    text = comparison_report(pairs, paired_differences(*samples, ["ssim", "psnr"]), ["hair fid: 1 and 2"])
    for part in (
        "first = a and second = b",
        "Holm",
        "hair fid: 1 and 2",
        "a note",
        "- composite was 'exact', now 'off'",
    ):
        assert part in text
    assert "no photo has a finite value in both: hair psnr" in text
    assert [row[1] for row in cells(text)[2:]] == ["ssim (up)"]


def test_equal_settings_are_said_to_be_equal():
    pairs = PairedRuns(({"run_id": "a"}, {"run_id": "b"}), (scores(), scores()), {"ssim": True}, [], [])
    text = comparison_report(pairs, paired_differences(scores(), scores(), ["ssim"]), [])
    assert "none: the two runs have the same settings" in text


def test_a_run_that_changed_nothing_is_counted_and_never_better():
    edited = scores().assign(status="ok", idle=False)
    idle = edited.assign(ssim=1.0, status="unchanged", idle=True)
    n = len(idle)
    pairs = PairedRuns(({"run_id": "a"}, {"run_id": "b"}), (edited, idle), {"ssim": True}, [], [])
    differences = paired_differences(edited, idle, ["ssim"], {"ssim": True})
    text = comparison_report(pairs, differences, [])
    assert f"hair of the second unchanged in {n} of {n}" in text
    assert "**" not in text
    shown = comparison_report(pairs, paired_differences(edited, idle.drop(columns="idle"), ["ssim"]), [])
    assert "**second**" in shown, "it would be bold otherwise"

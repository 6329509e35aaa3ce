"""Compare, strata and leakage from the configuration to what is printed, and the columns they are made from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.editing.precomputed import Precomputed
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.face_facts import ita_deg, pose_proxy
from semfacediff.metrics.leakage import pooled

REPOSITORY = Path(__file__).resolve().parents[2]
COMMON = "metrics=no_weights weights.download=false strips=0 runtime.device=cpu runtime.workers=0".split()
HARD = "region.feather_sigma_px=0"


def settings(*overrides):
    return config.typed(composed("evaluate", [*COMMON, *overrides], REPOSITORY), config.EditingEvaluation)


def from_files(root, *overrides):
    words = f"data=folder data.root={root} editor=precomputed editor.root={root}/edits attributes=[hair,lips]".split()
    soft = "region.feather_sigma_px=32"
    return settings(*words, "parser=precomputed", f"parser.root={root}/parses", soft, *overrides)


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    return write_files(tmp_path_factory.mktemp("files"), [(64, 64)] * 5)


@pytest.fixture(scope="module")
def soft(files, tmp_path_factory) -> Path:
    """A run with a feathered mask."""
    folder = tmp_path_factory.mktemp("runs") / "soft"
    assert tasks.start(from_files(files), folder) == 0
    return folder


@pytest.fixture(scope="module")
def hard(files, tmp_path_factory) -> Path:
    """The same with a hard mask."""
    folder = tmp_path_factory.mktemp("runs") / "hard"
    assert tasks.start(from_files(files, HARD), folder) == 0
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """Thirty drawn faces with annotations, recoloured."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    words = "data=toy data.split=all data.count=30 data.size=48 parser=ground_truth editor=recolor attributes=[hair]"
    run = settings(*words.split(), "prompts.hair='purple hair'", "stratify=[hair_colour]")
    assert tasks.start(run, folder) == 0
    return folder


def samples(folder):
    return pd.read_parquet(folder / "samples.parquet").set_index(["sample_id", "attribute"])


def labels(root, path):
    return np.asarray(Image.open(root / "parses" / path)).astype(np.int64)


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_every_edit_has_seam_and_shape(soft):
    table = samples(soft)
    for column in ("seam", "geometry_shift_pct", "parts_lost"):
        assert table[[column, f"{column}_raw"]].notna().all(axis=None)
    assert (table["geometry_shift_pct"] > 0).all(), "the parses after the edit are shifted"
    assert (table["seam"] != table["seam_raw"]).any()


def test_the_summary_has_their_means(soft):
    rows = pd.read_csv(soft / "summary.csv").set_index("attribute")
    for column in ("seam", "geometry_shift_pct", "seam_raw", "geometry_shift_pct_raw"):
        values = samples(soft)[column].xs("hair", level="attribute")
        assert rows.loc["hair", f"{column}_mean"] == pytest.approx(values.mean(), rel=1e-8)
        assert rows.loc["hair", f"{column}_sd"] == pytest.approx(values.std(ddof=1), rel=1e-8)


def test_a_hard_mask_leaves_a_greater_seam(soft, hard):
    assert (samples(hard)["seam"] > samples(soft)["seam"]).all()


def test_face_facts_are_those_of_the_photo_and_its_parse(files, soft):
    photo, parse = np.asarray(Image.open(files / "images/b.png")), labels(files, "before/b.png")
    row = samples(soft).loc[("b", "lips")]
    assert row["ita_deg"] == ita_deg(photo, parse, CELEBAMASK)
    assert pd.isna(row["pose_proxy"])
    assert pose_proxy(parse, CELEBAMASK) is None, "these faces have no nose"
    assert pd.isna(row["traits"]), "files carry no annotations"


def test_annotations_of_the_data_set_are_kept(toy):
    table = samples(toy)
    assert json.loads(table["traits"].iloc[0])["hair_style"]
    assert table[["ita_deg", "pose_proxy"]].notna().all(axis=None)


def test_leakage_is_the_sum_over_the_samples(files, soft):
    table = pd.read_csv(soft / "leakage.csv")
    for attribute in ("hair", "lips"):
        sums = pooled(samples(soft)["leakage"].xs(attribute, level="attribute"), CELEBAMASK.n)
        found = np.zeros_like(sums)
        for row in table[table["attribute"] == attribute].to_dict("records"):
            found[CELEBAMASK.index(row["before"]), CELEBAMASK.index(row["after"])] = row["pixels"]
        assert np.array_equal(found, sums)
    counts = pooled([samples(soft).loc[("a", "hair"), "leakage"]], CELEBAMASK.n)
    before, after = labels(files, "before/a.png"), labels(files, "after/hair/a.png")
    assert 0 < counts.sum() < before.size
    everywhere = np.zeros_like(counts)
    np.add.at(everywhere, (before.ravel(), after.ravel()), 1)
    assert (counts <= everywhere).all()


def test_without_an_opinion_of_edits_there_is_none(toy):
    assert samples(toy)[["leakage", "geometry_shift_pct"]].isna().all(axis=None)
    assert pd.read_csv(toy / "leakage.csv").empty


def test_an_interrupted_run_counts_the_same(files, soft, tmp_path, monkeypatch):
    edit, seen = Precomputed.edit, []

    def stopping(self, requests):
        seen.append(requests)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return edit(self, requests)

    run = from_files(files, "runtime.batch_size=1")
    monkeypatch.setattr(Precomputed, "edit", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(run, tmp_path / "run")
    assert tasks.start(run, tmp_path / "run") == 0
    assert (tmp_path / "run" / "leakage.csv").read_bytes() == (soft / "leakage.csv").read_bytes()
    varying = ["latency_s", "peak_memory_mib"]
    pd.testing.assert_frame_equal(
        samples(tmp_path / "run").drop(columns=varying), samples(soft).drop(columns=varying), check_exact=True
    )


# --- compare ---------------------------------------------------------------------------------------------------------


def test_compare_prints_differences_and_settings(soft, hard, capsys):
    assert main(["compare", str(soft), str(hard), "--score", "seam", "iou"]) == 0
    printed = capsys.readouterr().out
    assert "- region.feather_sigma_px was 32.0, now 0.0" in printed
    assert "region differs" in printed
    rows = [line for line in printed.splitlines() if line.startswith("| hair") or line.startswith("| lips")]
    assert [[c.strip() for c in row.split("|")][2] for row in rows] == [
        "seam (down)",
        "seam (down)",
        "iou (up)",
        "iou (up)",
    ]
    d = (samples(hard)["seam"] - samples(soft)["seam"]).xs("hair", level="attribute").mean()
    assert f"{d:+.4f}" in rows[0]


def test_compare_all_leaves_out_what_no_photo_has(soft, hard, capsys):
    assert main(["compare", str(soft), str(hard)]) == 0
    printed = capsys.readouterr().out
    assert "leakage" not in printed
    motion = ("shift_px_raw", "zoom_pct_raw", "rotation_deg_raw")  # undone by an exact composite
    assert {word for word in printed.split() if word.endswith("_raw")} <= set(motion)
    assert main(["compare", str(soft), str(hard), "--raw"]) == 0
    assert "seam_raw (down)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["compare", "SOFT", "HARD"], {"attribute", "score", "n", "first", "second", "p_holm"}),
        (["compare", "SOFT", "HARD", "--doubtful"], {"attribute", "score", "run", "rank", "tier"}),
        (["strata", "SOFT", "--by", "pose"], {"attribute", "n"}),
        (["leakage", "SOFT", "--attribute", "hair"], {"attribute"}),
        (["list", "tables"], set()),
        (["list", "editors"], {"recolor"}),
    ],
)
def test_json(soft, hard, capsys, words, keys):
    places = {"SOFT": str(soft), "HARD": str(hard)}
    assert main([*(places.get(w, w) for w in words), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found
    assert keys <= (found if isinstance(found, dict) else found[0]).keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "SOFT", "SOFT"], "was named twice"),
        (["compare", "SOFT"], "expected two runs or more"),
        (["compare", "SOFT", "HARD", "--json", "--format", "csv"], "--json and --format csv are two forms"),
        (["strata", "SOFT", "HARD", "--by", "pose", "--json"], "--json is of one run, got 2; name one"),
        (["compare", "SOFT", "TOY"], "the data's digest is"),
        (["compare", "SOFT", "HARD", "--score", "beauty"], "no score beauty in both runs; there are change_de, "),
        (["compare", "SOFT", "nowhere"], "not a run's record"),
        (["strata", "SOFT", "--by", "age"], "expected --by one of skin_tone, pose, region_size, got 'age'"),
        (["strata", "SOFT", "--by", "pose", "--score", "clip"], "no score clip in the record; there are change_de, "),
        (["strata", "SOFT", "--by", "pose", "--figure", "x.gif"], r"expected a file ending in .pdf or .png, got x.gif"),
        (["leakage", "SOFT", "--attribute", "skin"], "has no edits of 'skin'; there are hair, lips"),
        (["leakage", "TOY"], "the parser had no opinion of the edits"),
    ],
)
def test_mistakes_are_one_sentence(soft, hard, toy, capsys, words, said):
    places = {"SOFT": str(soft), "HARD": str(hard), "TOY": str(toy)}
    assert main([places.get(w, w) for w in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_record_before_these_columns_is_refused_or_read(soft, tmp_path, capsys):
    old = shutil.copytree(soft, tmp_path / "old")
    (old / "leakage.csv").unlink()
    table = pd.read_parquet(old / "samples.parquet")
    table.drop(columns=["ita_deg", "pose_proxy", "traits", "seam"]).to_parquet(old / "samples.parquet")
    facts = json.loads((old / "run.json").read_text())
    del facts["files"]  # such a record holds no digests of its files either
    (old / "run.json").write_text(json.dumps(facts))
    assert main(["strata", str(old), "--by", "skin_tone"]) == 2
    assert "has no column 'ita_deg'" in capsys.readouterr().err
    assert main(["leakage", str(old)]) == 2
    assert main(["strata", str(old), "--by", "region_size"]) == 0
    assert main(["compare", str(soft), str(old), "--score", "iou"]) == 0


# --- strata and leakage ----------------------------------------------------------------------------------------------


def test_strata_prints_groups_and_gap(toy, capsys, tmp_path):
    figure = tmp_path / "pose.pdf"
    assert main(["strata", str(toy), "--by", "beard", "--score", "seam", "--figure", str(figure)]) == 0
    printed = capsys.readouterr().out
    beard = samples(toy)["traits"].map(lambda t: json.loads(t)["beard"])
    mean = samples(toy)["seam"][~beard].mean()
    assert f"{mean:.4f}" in next(line for line in printed.splitlines() if "not beard" in line)
    assert f"({beard.sum()})" in printed
    assert figure.stat().st_size > 1000


def test_a_run_can_print_them_itself(toy, capsys):
    run = settings(
        *"data=toy data.split=all data.count=30 data.size=48 parser=ground_truth editor=recolor".split(),
        "attributes=[hair]",
        "prompts.hair='purple hair'",
        "stratify=[skin_tone,hat]",
    )
    assert tasks.start(run, toy) == 0, "grouping has no effect on the result: the finished run only prints"
    printed = capsys.readouterr().out
    assert "by skin_tone:" in printed
    assert "not hat" in printed


def test_an_unknown_grouping_is_refused_before_the_run(files, tmp_path):
    with pytest.raises(UserError, match="stratify: expected of skin_tone, pose, region_size, got Male"):
        tasks.start(from_files(files, "stratify=[Male]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_leakage_prints_and_draws(soft, capsys, tmp_path):
    assert main(["leakage", str(soft), "--attribute", "lips", "--figure", str(tmp_path / "l.png")]) == 0
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert {row.split()[1] for row in rows[2:]} == {"lips"}
    assert "pixels outside (blend mask = 0)" in printed
    assert (tmp_path / "l.png").stat().st_size > 5_000

"""Which runs may be compared, and what is said of their differences."""

import json

import pandas as pd
import pytest

from semfacediff.errors import UserError
from semfacediff.records.pairing import by_stage, compared_runs, directions, paired_runs, scored_samples

SSIM = {"metric": "ssim", "version": "1", "higher_is_better": True}
SHIFT = {"metric": "geometry_shift_pct, parts_lost", "version": "1", "higher_is_better": {"geometry_shift_pct": False}}
COLUMNS = {"ssim": [0.9, 0.8], "ssim_raw": [0.5, 0.4], "geometry_shift_pct": [1.0, 2.0], "lpips": [None, None]}


@pytest.fixture
def run(tmp_path):
    def write(name, metrics=(SSIM, SHIFT), config=None, inputs=None, rows=None, **facts):
        folder = tmp_path / name
        folder.mkdir()
        config = {"protocol": "strict", "region": {"feather_sigma_px": 7.0}, "composite": "exact"} | (config or {})
        identity = {"config": config, "inputs": {"data": "d", "parser": "p"} | (inputs or {})}
        said = {"schema_version": 1, "run_id": name, "status": "done", "task": "editing", "not_comparable": []}
        said |= {"identity": identity, "metrics": list(metrics), "code": {"commit": "c"}} | facts
        (folder / "run.json").write_text(json.dumps(said))
        table = (
            {"sample_id": ["a", "b"], "attribute": "hair", "status": "ok", "latency_s": 1.0} | COLUMNS | (rows or {})
        )
        pd.DataFrame(table).to_parquet(folder / "samples.parquet")
        return folder

    return write


def test_two_settings_of_one_benchmark(run):
    pairs = paired_runs(run("one"), run("two", config={"composite": "off"}))
    assert pairs.directions == {"ssim": True, "geometry_shift_pct": False, "ssim_raw": True}
    assert pairs.settings == ["composite was 'exact', now 'off'"]
    assert pairs.notes == []
    assert [len(rows) for rows in pairs.samples] == [2, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"protocol": "thesis"}}, "protocol is 'strict' and 'thesis'; measure both alike"),
        ({"inputs": {"data": "other"}}, "the data's digest is 'd' and 'other'"),
        ({"metrics": (SSIM | {"version": "2"},)}, "ssim.version is '1' and '2'"),
        ({"metrics": ({"metric": "ssim"},)}, "ssim.higher_is_better is True and 'not there'"),
    ],
)
def test_other_measurements_are_refused_with_the_difference(run, change, said):
    with pytest.raises(UserError, match=rf"one and .*two cannot be compared: {said}"):
        paired_runs(run("one"), run("two", **change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "parsing"}, "expected a run of task=editing, got task=parsing"),
        ({"status": "incomplete"}, "status incomplete; repeat its command"),
        ({"not_comparable": ["limit"]}, r"not comparable \(limit\)"),
    ],
)
def test_unusable_runs_are_refused(run, change, said):
    with pytest.raises(UserError, match=f"two: {said}"):
        paired_runs(run("one"), run("two", **change))


def test_a_run_against_itself_is_refused(run):
    one = run("one")
    with pytest.raises(UserError, match="was named twice"):
        paired_runs(one, one.parent / "." / "one")


def test_nothing_in_common_is_refused(run):
    with pytest.raises(UserError, match="have no edited attribute in common"):
        paired_runs(run("one"), run("two", rows={"attribute": "lips"}))
    with pytest.raises(UserError, match="have no score in common"):
        paired_runs(run("three"), run("four", metrics=({"metric": "clip"},)))


def test_missing_samples_are_refused(run):
    one = run("one")
    (one / "samples.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"samples.parquet: cannot be read .*; copy it again"):
        scored_samples(one)


def test_what_else_differs_is_told(run):
    other = {"config": {"region": {"feather_sigma_px": 0.0}}, "inputs": {"parser": "q"}, "code": {"commit": "e"}}
    rows = {"sample_id": ["a", "b"], "attribute": ["hair", "lips"]}
    pairs = paired_runs(run("one"), run("two", metrics=(SSIM,), rows=rows, **other))
    assert pairs.settings == [
        "region.feather_sigma_px was 7.0, now 0.0",
        "digest of parser was 'p', now 'q'",
    ]
    said = "\n".join(pairs.notes)
    for part in ("region differs", "the parser differs", "commits c and e", "measured in the first run only: geometry"):
        assert part in said
    assert "edited in the second run only: lips" in said
    assert [rows["attribute"].unique().tolist() for rows in pairs.samples] == [["hair"], ["hair"]]


def test_only_scored_rows_are_paired(run):
    rows = {"status": ["ok", "error"], "latency_s": [1.0, None]}
    _, samples = scored_samples(run("one", rows=rows))
    assert samples["sample_id"].tolist() == ["a"]


def test_directions_of_several_columns():
    assert directions({"metrics": [SHIFT, {"metric": "x, y", "higher_is_better": False}]}) == {
        "geometry_shift_pct": False,
        "parts_lost": None,
        "x": False,
        "y": False,
        "geometry_shift_pct_raw": False,
        "parts_lost_raw": None,
        "x_raw": False,
        "y_raw": False,
        "geometry_shift_pct_raw_registered": False,
        "parts_lost_raw_registered": None,
        "x_raw_registered": False,
        "y_raw_registered": False,
    }


def test_stages_of_a_cascade_are_told_apart():
    rows = pd.DataFrame({"attribute": ["hair", "lips", "hair"], "stage": [1, 2, 3]})
    assert by_stage(rows)["attribute"].tolist() == ["1_hair", "2_lips", "3_hair"]
    assert by_stage(rows[["attribute"]])["attribute"].tolist() == ["hair", "lips", "hair"]


# --- any number of runs ----------------------------------------------------------------------------------------------


def test_several_runs_keep_what_all_of_them_have(run):
    rows = {"sample_id": ["a", "b"], "attribute": ["hair", "lips"]}
    compared = compared_runs([run("one"), run("two"), run("three", metrics=(SSIM,), rows=rows)])
    assert list(compared.runs) == list(compared.samples) == ["one", "two", "three"]
    assert compared.directions == {"ssim": True, "ssim_raw": True}
    assert [len(of) for of in compared.samples.values()] == [2, 2, 1]


def test_runs_of_one_id_are_named_by_their_folders(run):
    one, two, three = run("one"), run("two", run_id="one"), run("three")
    assert list(compared_runs([one, two, three]).runs) == [str(one), str(two), "three"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"protocol": "thesis"}}, "one and .*three cannot be compared: protocol is 'strict' and 'thesis'"),
        ({"inputs": {"data": "other"}}, "one and .*three cannot be compared: the data's digest is 'd' and 'other'"),
        ({"inputs": {"tasks": "t"}}, "one and .*three cannot be compared: the task set's digest is None and 't'"),
        ({"metrics": (SSIM | {"version": "2"},)}, "one and .*three cannot be compared: ssim.version is '1' and '2'"),
        (
            {"inputs": {"judge": "j" * 64}, "judge": {"name": "own"}},
            "one and .*three cannot be compared: the judge is unknown p and own jjjjjjjj; set the same judge= for both",
        ),
        ({"not_comparable": ["limit: only part of the data was used"]}, r"three: not comparable \(limit"),
        ({"status": "incomplete"}, "three: status incomplete"),
        ({"files": {"samples.parquet": "0" * 16}}, "three: changed after the run ended"),
        ({"rows": {"attribute": "lips"}}, "one, two, three have no edited attribute in common; leave one out"),
    ],
)
def test_one_other_run_is_refused_by_name(run, change, said):
    with pytest.raises(UserError, match=said):
        compared_runs([run("one"), run("two"), run("three", **change)])


def test_a_run_named_twice_among_several_is_refused(run):
    one, two = run("one"), run("two")
    with pytest.raises(UserError, match="one was named twice; name each run once"):
        compared_runs([one, two, one.parent / "." / "one"])

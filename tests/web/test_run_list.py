"""Runs in folders, whole and half, without their pictures."""

import json

import pytest

from semfacediff.errors import UserError
from semfacediff.web.run_list import chosen_run, runs_below, summary_table
from semfacediff.web.wording import run_facts

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def roots(tmp_path):
    run = tmp_path / "runs" / "hair" / "a"
    run.mkdir(parents=True)
    facts = {"schema_version": 1, "run_id": "a", "status": "running", "task": "editing", "command": EVIL}
    (run / "run.json").write_text(json.dumps(facts | {"identity": {"config": {"protocol": EVIL}}}))
    (run / "summary.csv").write_text("attribute,n,n_empty,ssim,fid\nhair,2,0,0.987654,\n")
    (run / "edits").mkdir()
    (run / "edits" / "run.json").write_text("{}")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    return [tmp_path / "runs", tmp_path / "nowhere"]


def test_every_folder_with_a_record_is_listed(roots):
    assert list(runs_below(roots)) == ["runs/broken", "runs/hair/a"]


def test_half_a_record_is_shown_as_far_as_it_goes(roots):
    record = chosen_run("runs/hair/a", roots)
    assert summary_table(record).to_dict("records") == [
        {"attribute": "hair", "n": "2", "n_empty": "0", "ssim": "0.9877"}
    ]
    html = run_facts(record)
    assert "samples.parquet is missing" in html
    assert "Unfinished: the status is running" in html
    assert "<script" not in html


@pytest.mark.parametrize("name", ["runs/gone", "../../etc", "runs/hair/a/edits"])
def test_only_what_is_listed_can_be_chosen(roots, name):
    with pytest.raises(UserError, match=r"run .* no longer exists; choose another"):
        chosen_run(name, roots)


def test_a_broken_record_is_a_sentence(roots):
    with pytest.raises(UserError, match=r"run\.json: not a run's record"):
        chosen_run("runs/broken", roots)

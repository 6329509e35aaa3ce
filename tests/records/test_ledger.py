"""The ledger of a sweep: what is finished, who holds it, how cells ended."""

import json
import re
import shlex

import pytest

from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, INCOMPLETE, RUNNING, RunFolder, held
from semfacediff.records.ledger import INDEX, finished_runs, noted, read_index

WORDS = ["experiment=ablations/composite", "composite=off", "prompts.hair='$x^2$ <b>; rm'"]
COMMAND = shlex.join(["python", "evaluate.py", *WORDS])


def cell(folder, status=DONE, **facts):
    header = {"command": COMMAND, "task": "editing", **facts}
    with RunFolder(folder, {"config": {"name": folder.name}, "inputs": {}}, header, "") as record:
        if status != RUNNING:
            record.close(status)


def test_finished_runs_are_read_from_the_records_alone(tmp_path):
    for name, status in {"b": DONE, "a": DONE, "c": INCOMPLETE, "d": RUNNING}.items():
        cell(tmp_path / name, status)
    cell(tmp_path / "part", part_of={"index": 0, "count": 2})
    (tmp_path / "nothing").mkdir()
    assert finished_runs(tmp_path) == [(WORDS, tmp_path / "a"), (WORDS, tmp_path / "b")]
    assert finished_runs(tmp_path / "nothing") == []


def test_a_record_of_another_schema_is_refused(tmp_path):
    cell(tmp_path / "old")
    file = tmp_path / "old" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 0}))
    with pytest.raises(UserError, match=r"old/run.json: schema version 0, this program reads 1"):
        finished_runs(tmp_path)


def test_a_sweep_has_one_holder_and_is_free_afterwards(tmp_path):
    sweep = tmp_path / "sweep"
    with (
        held(sweep, "set hydra.sweep.dir=DIR"),
        pytest.raises(UserError, match=rf"process \d+ on .+ is working in {re.escape(str(sweep))}"),
        held(sweep, "set hydra.sweep.dir=DIR"),
    ):
        pass
    with held(sweep, "set hydra.sweep.dir=DIR"):
        pass
    assert list(sweep.iterdir()) == []


def test_the_index_says_how_every_cell_ended(tmp_path):
    (tmp_path / "cell0").mkdir()
    for code in (0, 1, 2):
        with noted(tmp_path, f"cell{code}", [f"seed={code}"]) as codes:
            assert read_index(tmp_path)[f"cell{code}"] == {
                "overrides": [f"seed={code}"], "status": RUNNING, "exit": None,
            }  # fmt: skip
            codes.append(code)
    with noted(tmp_path, "without weights", []) as codes:
        codes.append(0)
    for name, error in {"left": SystemExit(130), "broken": ValueError("x")}.items():
        with pytest.raises(type(error)), noted(tmp_path, name, []):
            raise error
    ends = {name: (known["status"], known["exit"]) for name, known in read_index(tmp_path).items()}
    assert ends == {
        "broken": ("crashed", None),
        "cell0": (DONE, 0),
        "cell1": (INCOMPLETE, 1),
        "cell2": ("refused", 2),
        "left": ("interrupted", 130),
        "without weights": ("not run", 0),
    }


def test_a_cell_that_could_not_say_its_end_is_corrected_from_its_record(tmp_path):
    text = json.dumps({"cells": {"a": {"overrides": [], "status": RUNNING, "exit": None}}})
    (tmp_path / INDEX).write_text(text)
    cell(tmp_path / "a")
    with noted(tmp_path, "b", []) as codes:
        codes.append(0)
    assert read_index(tmp_path)["a"]["status"] == DONE


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cells": 3}', '{"cells": {"a": 3}}'])
def test_a_damaged_index_costs_nothing(tmp_path, damage):
    (tmp_path / INDEX).write_text(damage)
    with noted(tmp_path, "b", []) as codes:
        codes.append(0)
    assert list(read_index(tmp_path)) == ["b"]

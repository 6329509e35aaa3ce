"""The comparisons with plain ways: how they are judged, and that the quickest of them runs. No time decides a test."""

import json
import math
import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def _benchmarks(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    yield
    sys.path.remove(str(repository / "benchmarks"))


def comparison(**changed):
    from comparing import Comparison

    facts = {"name": "x", "ours": 4.0, "plain": 2.0, "ratio": 2.0, "wanted": 1.5, "unit": "photos/s", "command": ""}
    return Comparison(**facts | changed)


def test_what_is_wanted():
    assert comparison().reached
    assert not comparison(wanted=2.5).reached
    assert comparison(wanted=None).reached is None
    assert comparison(ours=29.0, wanted=30, at_most=True).reached
    assert not comparison(ours=31.0, wanted=30, at_most=True).reached


def test_ratios_are_of_turns_and_rates_of_things():
    from comparing import Turns

    taken = Turns(plain=[(4.0, 8.0), (9.0, 9.0), (6.0, 6.0)], ours=[(2.0, 2.0), (3.0, 3.0), (1.0, 3.0)])
    rate = taken.compared("x", 10, "photos/s", 1.0, "")
    assert (rate.ratio, rate.processor_ratio) == (3.0, 3.0)
    assert (rate.plain, rate.ours) == (10 / 6, 10 / 2)
    time = taken.compared("x", 10, "ms/photo", None, "")
    assert (time.plain, time.ours) == pytest.approx((600, 200))


def test_ways_take_turns_and_the_first_changes():
    from comparing import in_turns

    done = []
    in_turns(lambda: done.append("plain"), lambda: done.append("ours"), 2, lambda: done.append("before"))
    assert done == ["before", "plain", "before", "ours", "before", "ours", "before", "plain"]


def test_a_comparison_runs_and_its_facts_are_plain_data():
    import scoring
    from comparing import HEAD, line

    (made,) = scoring.comparisons(photos=2, size=32, turns=1)
    facts = json.loads(json.dumps(made.facts()))
    assert facts["unit"] == "photos/s"
    assert math.isfinite(facts["ratio"])
    assert facts["wanted"] == 4.0
    assert len(line(made)) >= len(HEAD) - 8


def test_every_module_of_the_runner_is_there_and_known_by_its_quick_form(repository):
    import ast

    tree = ast.parse((repository / "benchmarks" / "all.py").read_text())
    values = {t.id: ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
              if isinstance(t, ast.Name) and t.id in ("MODULES", "QUICK")}  # fmt: skip
    assert set(values["MODULES"]) == set(values["QUICK"])
    for name in values["MODULES"]:
        assert "def comparisons(" in (repository / "benchmarks" / f"{name}.py").read_text()

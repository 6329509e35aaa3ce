"""Which edits did nothing although something was asked for, and which prompts name no colour."""

import pandas as pd
import pytest

from semfacediff.records.idle import IDLE, already_there, names_colour, with_idle
from semfacediff.records.samples import EMPTY_REGION, ERROR, OK, UNCHANGED


def marked(**columns):
    row = {"attribute": "hair", "status": UNCHANGED, "prompt": "red hair", "toward_prompt": 0.0} | columns
    return bool(with_idle(pd.DataFrame([row]))[IDLE][0])


@pytest.mark.parametrize(
    ("columns", "idle"),
    [
        ({}, True),
        ({"status": OK}, False),
        ({"kind": "keep"}, False),
        ({"kind": "recolour"}, True),
        ({"toward_prompt": None}, False),
        ({"toward_prompt": None, "prompt": "curly hair"}, True),
        ({"toward_prompt": None, "prompt": "blonde hair"}, True),
    ],
)
def test_an_unchanged_edit_is_idle_unless_nothing_was_asked_for(columns, idle):
    assert marked(**columns) is idle


def test_records_without_an_effect_have_no_idle_edit():
    rows = pd.DataFrame({"attribute": ["hair"], "status": [OK]})
    assert with_idle(rows)[IDLE].tolist() == [False]


def test_prompts_without_a_colour_of_the_tables():
    rows = pd.DataFrame(
        {"attribute": ["hair", "hair", "lips"], "prompt": ["red hair", "blonde hair", "curly"]}, [5, 5, 7]
    )
    assert names_colour(rows).tolist() == [True, False, False]


@pytest.mark.parametrize("status", [OK, UNCHANGED, EMPTY_REGION, ERROR])
def test_photos_that_have_the_colour_already(status):
    rows = pd.DataFrame(
        {
            "attribute": "hair",
            "status": status,
            "prompt": ["red hair", "red hair", "curly hair"],
            "toward_prompt": [None, 0.0, None],
        },
        [5, 5, 7],
    )
    assert already_there(rows).tolist() == [status in (OK, UNCHANGED), False, False]
    assert not already_there(rows.drop(columns="toward_prompt")).any()

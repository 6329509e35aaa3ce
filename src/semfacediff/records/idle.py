"""Edits that changed nothing, and prompts that name no colour: what a summary counts and a comparison holds against."""

import pandas as pd

from semfacediff.colours.grammar import named_colour
from semfacediff.config.prompts import KEEP
from semfacediff.records.samples import OK, UNCHANGED

IDLE = "idle"
"""Column that :func:`with_idle` adds."""


def names_colour(samples: pd.DataFrame) -> pd.Series:
    """bool: whether the prompt of each row names a colour of CSS4 or XKCD for its attribute."""
    pairs = zip(samples["prompt"], samples["attribute"], strict=True)
    return pd.Series([named_colour(str(p), str(a)) is not None for p, a in pairs], samples.index, dtype=bool)


def already_there(samples: pd.DataFrame) -> pd.Series:
    """bool: whether each photo had the colour that its prompt names before the edit (``toward_prompt`` is missing)."""
    if not {"toward_prompt", "prompt"} <= set(samples):
        return pd.Series(False, samples.index, dtype=bool)
    there = samples["toward_prompt"].isna() & samples["status"].isin((OK, UNCHANGED))
    there[there] = names_colour(samples[there])
    return there


def with_idle(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows with a bool column :data:`IDLE`: the edit changed nothing although something was asked for.

    Nothing was asked for where the row's ``kind`` is ``keep``, or where the photo had the colour of the prompt already
    (``toward_prompt`` is missing although the prompt names one).
    """
    idle = samples["status"] == UNCHANGED
    if idle.any():
        if "kind" in samples:
            idle &= samples["kind"] != KEEP
        idle &= ~already_there(samples)
    return samples.assign(**{IDLE: idle})

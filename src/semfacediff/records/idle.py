"""Edits that changed nothing, and prompts that name no colour: what a summary counts and a comparison holds against."""

import pandas as pd

from semfacediff.colours.grammar import named_colour
from semfacediff.records.samples import UNCHANGED

IDLE = "idle"
"""Column that :func:`with_idle` adds."""
KEEP = "keep"
"""Kind of a task whose right answer is no change."""


def names_colour(samples: pd.DataFrame) -> pd.Series:
    """bool: whether the prompt of each row names a colour of CSS4 or XKCD for its attribute."""
    pairs = zip(samples["prompt"], samples["attribute"], strict=True)
    return pd.Series([named_colour(str(p), str(a)) is not None for p, a in pairs], samples.index, dtype=bool)


def with_idle(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows with a bool column :data:`IDLE`: the edit changed nothing although something was asked for.

    Nothing was asked for where the row's ``kind`` is ``keep``, or where the photo had the colour of the prompt already
    (``toward_prompt`` is missing although the prompt names one).
    """
    idle = samples["status"] == UNCHANGED
    if idle.any():
        if "kind" in samples:
            idle &= samples["kind"] != KEEP
        if {"toward_prompt", "prompt"} <= set(samples):
            idle &= samples["toward_prompt"].notna() | ~names_colour(samples)
    return samples.assign(**{IDLE: idle})

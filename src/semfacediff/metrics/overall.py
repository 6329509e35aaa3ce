"""One score of an edit: harmonic mean of effect, preservation and identity, each placed between two controls."""

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semfacediff.colours.grammar import named_colour
from semfacediff.config.prompts import KEEP
from semfacediff.metrics.base import NO_RESIZE, OURS, declared
from semfacediff.weight_files import fingerprint

ANCHORS = Path(__file__).with_name("overall.json")
"""Means of the controls that are 0 and 1 on each axis, made by ``benchmarks/overall.py``."""
EFFECT = TOWARD, CHANGE = "toward_prompt", "change_de"
"""Effect where the prompt names a colour, and where it does not."""
PRESERVATION, IDENTITY = "ssim_raw_registered", "identity"
OVERALL = "overall"
NOT_KEPT = (*EFFECT, OVERALL, "clip", "latency_s", "peak_memory_mib")
"""Scores with a direction that an edit does not win by doing less; every other one says what was kept."""
BOUNDS: Mapping[str, tuple[str, str]] = {
    TOWARD: ("nothing", "asked_colour"),
    CHANGE: ("nothing", "asked_colour"),
    PRESERVATION: ("photo_noise", "nothing"),
    IDENTITY: ("other_face", "nothing"),
}
"""Column -> the controls whose means are 0 and 1."""
_MEASURED = {TOWARD, CHANGE, "ssim", IDENTITY, "shift_px"}


@dataclass(frozen=True)
class Overall:
    """The column ``overall``, computed from other columns of a sample's row.

    Attributes:
        anchors: column -> (value that counts as 0, value that counts as 1). digest: of their file.
    """

    anchors: Mapping[str, tuple[float, float]]
    digest: str

    def score(self, row: Mapping[str, Any]) -> float | None:
        """Harmonic mean in [0, 1] of the three axes; 0 if one is 0, ``None`` if one is missing.

        Args:
            row: with ``prompt``, ``attribute``, the columns of :data:`BOUNDS`, and ``kind`` in a task set: where the
                kind is ``keep``, there is no effect to score.
        """
        if row.get("kind") == KEEP:
            return None
        effect = CHANGE if named_colour(str(row["prompt"]), str(row["attribute"])) is None else TOWARD
        return harmonic_mean([self.placed(column, row.get(column)) for column in (effect, PRESERVATION, IDENTITY)])

    def placed(self, column: str, value: float | None) -> float | None:
        """``value`` between its anchors, cut at 0 and 1; ``None`` if it is missing."""
        if value is None or math.isnan(value):
            return None
        zero, one = self.anchors[column]
        return min(1.0, max(0.0, (value - zero) / (one - zero)))

    def identity(self) -> dict[str, object]:
        return declared(
            OVERALL,
            **OURS,
            bounds=[0, 1],
            unit="1",
            higher_is_better=True,
            resize=NO_RESIZE,
            mean=f"harmonic, of {TOWARD} (without a colour {CHANGE}), {PRESERVATION} and {IDENTITY}",
            anchors=self.digest,
        )


def harmonic_mean(axes: Sequence[float | None], weights: Sequence[float] = (1, 1, 1)) -> float | None:
    """Weighted harmonic mean of values in [0, 1]; ``None`` if one is missing."""
    known = [x for x in axes if x is not None]
    if len(known) < len(axes):
        return None
    used = [(x, w) for x, w in zip(known, weights, strict=True) if w]
    if min(x for x, _ in used) == 0:
        return 0.0
    return sum(w for _, w in used) / sum(w / x for x, w in used)


def read_anchors(file: Path = ANCHORS) -> Overall:
    """The score with the anchors in ``file``."""
    plain = json.loads(file.read_text("utf-8"))["anchors"]
    return Overall({column: (plain[column]["zero"], plain[column]["one"]) for column in BOUNDS}, fingerprint(file))


def open_overall(measured: Set[str], protocol: str) -> Overall | None:
    """The score, if the columns ``measured`` hold its axes as the anchors were measured; else ``None``.

    That is under protocol ``strict``, with the metrics effect, alignment, ssim and identity.
    """
    return read_anchors() if protocol == "strict" and measured >= _MEASURED else None

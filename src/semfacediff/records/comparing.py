"""Runs of the same photos under different settings: what differs, and what may be called better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from semfacediff.metrics.overall import EFFECT, NOT_KEPT, TOWARD
from semfacediff.records.idle import IDLE
from semfacediff.records.statistics import (
    ALPHA,
    SAME,
    Blocks,
    Cell,
    blocks_of,
    bootstrap_intervals,
    holm,
    rank_biserial,
    ratio,
    sign_flip_p,
)


@dataclass(frozen=True)
class Pairs:
    """Per-photo means of two settings, float64 ``[B, K]`` each, NaN where one of the two has none."""

    cells: list[Cell]
    first: np.ndarray
    second: np.ndarray
    idle: tuple[np.ndarray, np.ndarray]
    """bool ``[B, K]`` of either setting: an edit changed nothing although something was asked for."""

    def earned(self, up: Sequence[bool | None]) -> np.ndarray:
        """:attr:`differences` where what an idle edit gains over the other one counts as 0: doing nothing keeps
        everything, so that it would win every score of what was kept.

        Args:
            up: direction of each cell's score; ``None`` = there is none.
        """
        d = self.differences
        gain = d * np.array([{True: 1, False: -1, None: 0}[x] for x in up])
        return np.where((gain > 0) & self.idle[1] | (gain < 0) & self.idle[0], 0.0, d)

    def only(self, places: Sequence[int]) -> "Pairs":
        """The cells at these places."""
        idle = self.idle[0][:, places], self.idle[1][:, places]
        return Pairs([self.cells[k] for k in places], self.first[:, places], self.second[:, places], idle)

    @property
    def differences(self) -> np.ndarray:
        """second - first; 0 where the two are the same number, or the last bits of equal scores would win tests."""
        d = self.second - self.first
        return np.where(np.abs(d) <= SAME * np.maximum(1.0, np.abs(self.first)), 0.0, d)


def per_photo(samples: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Means over the seeds: a row a photo, a column a cell; last the share of idle edits of each attribute."""
    blocks = blocks_of(samples if IDLE in samples else samples.assign(**{IDLE: False}), [*scores, IDLE])
    return pd.DataFrame(ratio(blocks.sums, blocks.counts), list(blocks.ids), pd.MultiIndex.from_tuples(blocks.cells))


def _paired(first: pd.DataFrame, second: pd.DataFrame) -> Pairs:
    """Photos and cells that both have, of two results of :func:`per_photo`."""
    cells = [cell for cell in first.columns.to_numpy() if cell in second.columns and cell[1] != IDLE]
    ids = first.index.intersection(second.index).sort_values()
    a, b = (table.loc[ids, cells].to_numpy() for table in (first, second))
    both = np.isfinite(a) & np.isfinite(b)
    shares = [(attribute, IDLE) for attribute, _ in cells]
    idle = first.loc[ids, shares].to_numpy() > 0, second.loc[ids, shares].to_numpy() > 0
    return Pairs(cells, np.where(both, a, np.nan), np.where(both, b, np.nan), idle)


def of_what_was_kept(score: str) -> bool:
    """Whether doing less wins a score: all with a direction but those of the effect, the whole, time and memory."""
    return score.removesuffix("_raw") not in NOT_KEPT


def did_less(cells: Sequence[Cell], differences: np.ndarray, p: np.ndarray, alpha: float = ALPHA) -> dict[str, int]:
    """Attribute -> -1 where the second of two settings has the significantly lower effect, 1 where the first has.

    The effect of an attribute is ``toward_prompt``, or ``change_de`` where no photo has that; Holm over the attributes.

    Args:
        cells: K names. differences: second - first, ``[B, K]``. p: of each cell, ``[K]``.
    """
    of: dict[str, int] = {}
    for k, (attribute, score) in enumerate(cells):
        if score in EFFECT and np.isfinite(differences[:, k]).any() and (attribute not in of or score == TOWARD):
            of[attribute] = k
    places = list(of.values())
    corrected = holm(np.where(moved(differences[:, places]), p[places], np.nan))
    found = zip(of, np.nansum(differences[:, places], axis=0), corrected, strict=True)
    return {attribute: int(np.sign(total)) for attribute, total, q in found if q <= alpha}


def moved(differences: np.ndarray) -> np.ndarray:
    """bool ``[K]``: cells in which some photo differs. Elsewhere nothing could be found, so no test is counted."""
    return np.nan_to_num(differences).any(0)


def _as_blocks(values: np.ndarray, cells: Sequence[Cell]) -> Blocks:
    there = np.isfinite(values)
    return Blocks(range(len(values)), cells, np.where(there, values, 0.0), there.astype(np.float64))


def paired_differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    scores: Sequence[str],
    up: Mapping[str, bool | None] = MappingProxyType({}),
) -> pd.DataFrame:
    """How ``second`` differs from ``first`` on the photos that both have, a row an attribute and score.

    Several rows of a photo and attribute (seeds) are averaged first. Photos for which one of the two has no finite
    value are left out of that cell.

    Args:
        first, second: rows with ``sample_id``, ``attribute``, the scores, and ``idle`` where edits were looked at.
        up: score -> whether higher is better, of those that have a direction.

    Returns:
        ``attribute, score, n, first, second, difference, low, high, p, p_holm, effect, earned, less``: pairs, both
        means over the pairs, second - first with its BCa interval, sign-flip p, the same corrected by Holm over all
        rows in which some photo differs (p is 1 in the others), the rank-biserial correlation, the mean difference
        that was tested: what an edit that changed nothing gains counts as 0 in it and in p, and, of scores of what was
        kept, what :func:`did_less` says of the attribute (else 0).
    """
    asked = [*scores, *(s for s in EFFECT if s not in scores and s in first and s in second)]
    every = _paired(*(per_photo(rows, asked) for rows in (first, second)))
    of_all = every.earned([up.get(score) for _, score in every.cells])
    p_all = sign_flip_p(of_all)
    own = [k for k, (_, score) in enumerate(every.cells) if score in scores]
    pairs, earned, p = every.only(own), of_all[:, own], p_all[own]
    blocks = _as_blocks(pairs.differences, pairs.cells)
    low, high = bootstrap_intervals(blocks)
    corrected = np.where(moved(earned), holm(np.where(moved(earned), p, np.nan)), p)
    attributes, names = zip(*pairs.cells, strict=True) if pairs.cells else ((), ())
    less = did_less(every.cells, of_all, p_all)
    table = {
        "attribute": list(attributes),
        "score": list(names),
        "n": blocks.sizes,
        "first": _as_blocks(pairs.first, pairs.cells).means,
        "second": _as_blocks(pairs.second, pairs.cells).means,
        "difference": blocks.means,
        "low": low,
        "high": high,
        "p": p,
        "p_holm": corrected,
        "effect": rank_biserial(pairs.differences),
        "earned": _as_blocks(earned, pairs.cells).means,
        "less": [less.get(a, 0) if of_what_was_kept(s) else 0 for a, s in pairs.cells],
    }
    return pd.DataFrame(table)


def significantly_best(
    settings: Mapping[str, pd.DataFrame], higher_is_better: Mapping[str, bool], alpha: float = ALPHA
) -> dict[Cell, str]:
    """The setting that may be called better in each cell of a table: what stands in bold there.

    In a cell the setting with the best mean is compared with every other one, photo by photo. It is bold only if it
    wins all of these comparisons after Holm's correction over all comparisons of the table; a cell whose best is not
    significantly better than its runner-up is absent. What an edit that changed nothing gains counts as 0, and a score
    of what was kept is won by no setting with a significantly lower effect than another (:func:`did_less`). Scores
    without a value for each photo (FID, KID) cannot be tested and are never bold.

    Args:
        settings: name -> sample rows, as for :func:`paired_differences`; the effect's columns need not be among the
            scores of the table.
        higher_is_better: the scores of the table and their direction.
    """
    if any(rows.empty for rows in settings.values()):
        return {}  # a setting in which no region was found has nothing to compare
    more = [s for s in EFFECT if s not in higher_is_better and all(s in rows for rows in settings.values())]
    ups: dict[str, bool | None] = dict(higher_is_better) | dict.fromkeys(more)
    photos = {name: per_photo(rows, list(ups)) for name, rows in settings.items()}
    means = pd.DataFrame({name: table.drop(columns=[IDLE, *more], level=1).mean() for name, table in photos.items()})
    ranked = means.mul([1 if higher_is_better[score] else -1 for _, score in means.index], axis=0).dropna(how="all")
    leader: pd.Series = ranked.idxmax(axis=1)
    tests = []  # (cell, whether the leader leads on the pairs too, having done no less, p)
    for name in dict.fromkeys(leader):
        led = set(leader.index[leader == name])
        for other in settings:
            if other != name:
                pairs = _paired(photos[other], photos[name])
                d = pairs.earned([ups[score] for _, score in pairs.cells])
                p = np.where(moved(d), sign_flip_p(d), np.nan)
                gains = np.array([1 if ups[score] else -1 for _, score in pairs.cells]) * np.nansum(d, axis=0)
                less = did_less(pairs.cells, d, p)
                won = (gains > 0) & [not of_what_was_kept(s) or less.get(a) != -1 for a, s in pairs.cells]
                tests += [(c, w, q) for c, w, q in zip(pairs.cells, won, p, strict=True) if c in led]
    corrected = holm(np.array([p for *_, p in tests]))
    lost = {cell for (cell, ahead, _), p in zip(tests, corrected, strict=True) if not (ahead and p <= alpha)}
    tested = {cell for cell, *_ in tests}
    return {cell: leader[cell] for cell in ranked.index if cell in tested and cell not in lost}

"""Any number of runs of the same photos: every pair tested, tiers of runs that cannot be told apart, ranks."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from semfacediff.metrics.overall import EFFECT
from semfacediff.records.comparing import Pairs, did_less, moved, of_what_was_kept, per_photo
from semfacediff.records.idle import IDLE
from semfacediff.records.statistics import (
    ALPHA,
    LEVEL,
    MIN_BLOCKS,
    SAME,
    Blocks,
    Cell,
    bootstrap_intervals,
    holm,
    replicates,
    sign_flip_p,
)

_COLUMNS = "attribute score run n mean low high rank rank_low rank_high tier better_than best".split()


def ranked(runs: Mapping[str, pd.DataFrame], up: Mapping[str, bool | None]) -> pd.DataFrame:
    """Scores, ranks and tiers of several runs, a row an attribute, score and run; the best mean of a score first.

    Only photos for which every run has a finite value enter a cell, so that all runs are ranked on the same ones.
    All pairs of runs are tested as two runs are (:func:`semfacediff.records.comparing.paired_differences`), with Holm
    over all pairs and cells with a direction in which some photo differs.

    Args:
        runs: name -> rows with ``sample_id``, ``attribute`` and scores, and ``idle`` where edits were looked at.
        up: the scores, and whether higher is better; ``None``: means alone.

    Returns:
        ``attribute, score, run, n, mean, low, high, rank, rank_low, rank_high, tier, better_than, best``: photos, mean
        with its BCa interval, 1 + how many runs have a better mean, the same at 2.5 and 97.5 % of bootstrap resamples
        of the photos (missing under :data:`MIN_BLOCKS` photos), the tier, the runs that it is significantly better
        than, and whether it may be called best: these are all others, and in a score of what was kept
        (:func:`semfacediff.records.comparing.of_what_was_kept`) none of them has a significantly higher effect. A tier
        ends before the first run that is significantly worse than one in it: no two of a tier can be told apart.
    """
    names, more = list(runs), [s for s in EFFECT if s not in up and all(s in rows for rows in runs.values())]
    tables = [per_photo(rows, [*up, *more]) for rows in runs.values()]
    cells = [cell for cell in tables[0].columns.to_numpy() if cell[1] != IDLE and all(cell in t for t in tables)]
    ids = sorted(set.intersection(*(set(t.index) for t in tables)))
    values = np.stack([t.loc[ids, cells].to_numpy(np.float64) for t in tables])
    whole = np.isfinite(values).all(0)
    values = np.where(whole, values, np.nan)[:, :, whole.any(0)]
    cells = [cell for cell, some in zip(cells, whole.any(0), strict=True) if some]
    if not cells:
        return pd.DataFrame(columns=_COLUMNS)
    idle = [t.loc[ids, [(attribute, IDLE) for attribute, _ in cells]].to_numpy() > 0 for t in tables]
    directions = [up.get(score) for _, score in cells]
    better, lower = _tested(cells, values, idle, directions, set(up))
    drawn, low, high = _resampled(values)
    rows = []
    for k, (attribute, score) in enumerate(cells):
        if score not in up:
            continue
        row = {"attribute": attribute, "score": score, "n": int(np.isfinite(values[0, :, k]).sum())}
        facts = _of_cell(values[:, :, k], drawn[:, :, k], better[:, :, k], directions[k], names)
        facts = [(i, fact | {"best": fact["best"] and not lower[i, k]}) for i, fact in facts]
        rows += [row | fact | {"low": low[i, k], "high": high[i, k]} for i, fact in facts]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _tested(
    cells: Sequence[Cell],
    values: np.ndarray,
    idle: Sequence[np.ndarray],
    directions: Sequence[bool | None],
    shown: set[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Of ``values`` ``[R, B, K]``: bool ``[R, R, K]``, run i is significantly better than run j in a cell, and bool
    ``[R, K]``, the cell is of what was kept and some run has a significantly higher effect."""
    pairs = list(itertools.combinations(range(len(values)), 2))
    compared = [Pairs(list(cells), values[i], values[j], (idle[i], idle[j])) for i, j in pairs]
    earned = np.stack([pair.earned(directions) for pair in compared])
    p = sign_flip_p(earned.transpose(1, 0, 2).reshape(values.shape[1], -1)).reshape(len(pairs), -1)
    tested = np.array([d is not None and score in shown for d, (_, score) in zip(directions, cells, strict=True)])
    corrected = holm(np.where(tested & np.stack([moved(d) for d in earned]), p, np.nan))
    sign = np.array([{True: 1, False: -1, None: 0}[d] for d in directions])
    kept = np.array([of_what_was_kept(score) for _, score in cells])
    better, lower = np.zeros((len(values), *values.shape[::2]), bool), np.zeros(values.shape[::2], bool)
    for (i, j), pair, d, p_pair, q in zip(pairs, compared, earned, p, corrected, strict=True):
        gain, less = sign * np.nansum(d, axis=0), did_less(cells, d, p_pair)
        same_way = gain * sign * np.nansum(pair.differences, axis=0) > 0
        better[j, i], better[i, j] = (same_way & (q <= ALPHA) & (way * gain > 0) for way in (1, -1))
        sides = np.array([less.get(attribute, 0) for attribute, _ in cells])
        lower[j] |= kept & (sides == -1)
        lower[i] |= kept & (sides == 1)
    return better, lower


def _resampled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of resampled photos ``[resamples, R, K]``, and the ends of the means' intervals ``[R, K]`` each."""
    runs, photos, cells = values.shape
    flat = values.transpose(1, 0, 2).reshape(photos, -1)
    there = np.isfinite(flat)
    blocks = Blocks(range(photos), [("", "")] * flat.shape[1], np.where(there, flat, 0.0), there.astype(np.float64))
    low, high = (end.reshape(runs, cells) for end in bootstrap_intervals(blocks))
    return replicates(blocks).reshape(-1, runs, cells), low, high


def _of_cell(
    values: np.ndarray, drawn: np.ndarray, better: np.ndarray, up: bool | None, names: Sequence[str]
) -> list[tuple[int, dict[str, object]]]:
    """(place of a run, its facts), best mean first; ``values`` ``[R, B]``, ``drawn`` ``[resamples, R]``."""
    means = np.nanmean(values, axis=1)
    if up is None:
        return [(i, {"run": name, "mean": means[i], "better_than": (), "best": False}) for i, name in enumerate(names)]
    sign = 1 if up else -1
    rank, ends = _ranks(sign * means[None])[0], np.full((2, len(names)), np.nan)
    if np.isfinite(values[0]).sum() >= MIN_BLOCKS:
        levels = (1 - LEVEL) / 2, (1 + LEVEL) / 2
        resampled = _ranks(sign * drawn[np.isfinite(drawn).all(1)])
        ends = np.quantile(resampled, levels, axis=0, method="inverted_cdf")
    facts, tier, members = [], 1, list[int]()
    for i in sorted(range(len(names)), key=lambda i: (rank[i], names[i])):
        if better[members, i].any():
            tier, members = tier + 1, []
        members.append(i)
        beaten = tuple(name for name, won in zip(names, better[i], strict=True) if won)
        fact = {"rank": rank[i], "rank_low": ends[0, i], "rank_high": ends[1, i], "tier": tier}
        best = len(beaten) == len(names) - 1
        facts.append((i, {"run": names[i], "mean": means[i], **fact, "better_than": beaten, "best": best}))
    return facts


def _ranks(means: np.ndarray) -> np.ndarray:
    """1 + how many of a row's numbers ``[N, R]`` are larger; those that differ by no more than SAME are equal."""
    room = SAME * np.maximum(1.0, np.abs(means))
    return 1 + (means[:, None, :] > (means + room)[:, :, None]).sum(2)

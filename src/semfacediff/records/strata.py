"""The scores of a run by group of faces: skin tone, pose, region size, or an annotation of the data set."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.statistics import MIN_BLOCKS, Blocks, blocks_of, bootstrap_intervals, holm, max_min_p

MIN_STRATUM = MIN_BLOCKS
"""Photos under which a stratum is shown in grey with the range of its values, and enters no gap."""
SKIN_TONES = ("very light", "light", "intermediate", "tan", "brown", "dark")
SKIN_TONE_EDGES_DEG = (55.0, 41.0, 28.0, 10.0, -30.0)
"""Individual typology angle: above 55 very light ... -30 and below dark (Chardon et al. 1991; Del Bino and Bernerd,
British Journal of Dermatology 2013). A value on an edge belongs to the darker class."""
POSES = ("frontal", "half-turned", "turned")
YAW_EDGES_DEG = (15.0, 30.0)
PROXY_EDGES = (0.05, 0.12)
"""Of :func:`semfacediff.metrics.face_facts.pose_proxy`, on either side; 65 % and 90 % of 600 photos of CelebAMask-HQ
lie below them."""
UNKNOWN = "unknown"
OF_FACES = ("skin_tone", "pose")
BY = (*OF_FACES, "region_size")
"""Computed groupings; runs of parsers have no regions, and so those of faces alone."""
_THIRDS = ("lower third", "middle third", "upper third")


@dataclass(frozen=True)
class Strata:
    """Which stratum each row of a samples table belongs to.

    Attributes:
        by: what was asked for.
        names: in the order in which they are shown; ``unknown``, where it occurs, stands last.
        of: the stratum of every row.
        rule: how they were told apart, for the reader.
    """

    by: str
    names: tuple[str, ...]
    of: pd.Series
    rule: str


def strata_of(samples: pd.DataFrame, by: str) -> Strata:
    """Strata by ``skin_tone``, ``pose``, ``region_size`` or the name of an annotation that came with the photos.

    Raises:
        UserError: the record does not hold it; the sentence lists what it holds.
    """
    if by == "skin_tone":
        angle = _number(samples, "ita_deg")
        return _binned(by, -angle, SKIN_TONES, [-e for e in SKIN_TONE_EDGES_DEG], "ITA of the skin", on_edge=1)
    if by == "region_size" and "coverage" in samples:
        return _in_thirds(by, samples, _number(samples, "coverage"), "coverage of the region, thirds of each attribute")
    traits = _traits(samples)
    if by == "pose" and "yaw" in traits:
        turn = pd.to_numeric(traits["yaw"]).abs()
        return _binned(by, turn, POSES, YAW_EDGES_DEG, "annotated yaw, edges at 15 and 30 degrees")
    if by == "pose":
        turn = _number(samples, "pose_proxy").abs()
        return _binned(by, turn, POSES, PROXY_EDGES, "place of the nose between the eyes, edges at 0.05 and 0.12")
    if by in traits:
        return _by_trait(by, samples, traits[by])
    computed = BY if "coverage" in samples else OF_FACES
    known = ", ".join([*computed, *sorted(set(traits.columns) - set(BY))])
    raise UserError(f"strata: expected --by one of {known}, got '{by}'")


def _number(samples: pd.DataFrame, column: str) -> pd.Series:
    if column not in samples:
        raise UserError(
            f"strata: the record has no column '{column}', for an older version made it; repeat its command in a new "
            f"folder"
        )
    return pd.to_numeric(samples[column])


def _traits(samples: pd.DataFrame) -> pd.DataFrame:
    """The annotations, a column each and a row a row of ``samples``; each different text is read once."""
    if "traits" not in samples or samples["traits"].isna().all():
        return pd.DataFrame(index=samples.index)
    codes, texts = pd.factorize(samples["traits"])
    read = pd.DataFrame([json.loads(text) for text in texts])
    return read.reindex(codes).set_index(samples.index)


def _binned(
    by: str, values: pd.Series, names: Sequence[str], edges: Sequence[float], rule: str, on_edge: int = 0
) -> Strata:
    """``names[i]`` where ``i`` of the rising ``edges`` lie below the value; one on an edge moves on by ``on_edge``."""
    place = np.searchsorted(edges, values.to_numpy(), side="right" if on_edge else "left")
    found = np.array(names)[np.minimum(place, len(edges))]  # a NaN sorts behind every edge
    return _named(by, names, np.where(values.isna(), UNKNOWN, found), values, rule)


def _in_thirds(by: str, samples: pd.DataFrame, values: pd.Series, rule: str) -> Strata:
    """Thirds of the samples of each attribute; equal values share a third."""
    rank = values.groupby(samples["attribute"]).rank(pct=True, method="average")
    third = np.minimum(np.ceil(rank.fillna(1) * 3).astype(int), 3).clip(1) - 1
    return _named(by, _THIRDS, np.where(values.isna(), UNKNOWN, np.array(_THIRDS)[third]), values, rule)


def _by_trait(by: str, samples: pd.DataFrame, values: pd.Series) -> Strata:
    known = values.dropna()
    if known.map(lambda v: isinstance(v, bool)).all():
        names = (by, f"not {by}")
        found = values.map({True: names[0], False: names[1]})
    elif pd.api.types.is_numeric_dtype(known.infer_objects()):
        return _in_thirds(by, samples, pd.to_numeric(values), f"annotation '{by}', thirds")
    else:
        found, names = values.astype("string"), tuple(sorted(known.astype(str).unique()))
    return _named(by, names, found.fillna(UNKNOWN).to_numpy(), values, f"annotation '{by}'")


def _named(by: str, names: Sequence[str], found: np.ndarray, values: pd.Series, rule: str) -> Strata:
    names = (*names, UNKNOWN) if values.isna().any() else tuple(names)
    return Strata(by, names, pd.Series(found, values.index, dtype=object), rule)


def by_stratum(samples: pd.DataFrame, strata: Strata, scores: Sequence[str]) -> pd.DataFrame:
    """Mean and BCa interval of every score, a row an attribute, stratum and score.

    Photos are resampled within their stratum.

    Returns:
        ``attribute, stratum, score, n, mean, low, high, few``: ``few`` where n is under :data:`MIN_STRATUM`; ``low``
        and ``high`` are then the smallest and largest value. A stratum that nobody belongs to keeps its row with n 0.
    """
    attributes = samples["attribute"].unique()
    tables = []
    for name in strata.names:
        blocks = blocks_of(samples[strata.of == name], scores)
        low, high = _interval_or_range(blocks)
        found = {"n": blocks.sizes, "mean": blocks.means, "low": low, "high": high}
        table = pd.DataFrame(found, pd.MultiIndex.from_tuples(blocks.cells, names=["attribute", "score"]))
        wanted = pd.MultiIndex.from_product([attributes, scores], names=["attribute", "score"])
        tables.append(table.reindex(wanted).fillna({"n": 0}).reset_index().assign(stratum=name))
    rows = pd.concat(tables, ignore_index=True).astype({"n": int})
    place = [rows[key].map({v: i for i, v in enumerate(order)}) for key, order in _orders(attributes, strata, scores)]
    rows = rows.iloc[np.lexsort(place[::-1])].reset_index(drop=True)
    rows["few"] = rows["n"] < MIN_STRATUM
    return rows[["attribute", "stratum", "score", "n", "mean", "low", "high", "few"]]


def _interval_or_range(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Ends ``[K]`` of the interval, or where there are too few photos of the range of their means."""
    low, high = bootstrap_intervals(blocks)
    values = np.divide(blocks.sums, blocks.counts, out=np.full(blocks.sums.shape, np.nan), where=blocks.counts > 0)
    few = (blocks.sizes > 0) & (blocks.sizes < MIN_STRATUM)
    if few.any():
        low[few], high[few] = np.nanmin(values[:, few], axis=0), np.nanmax(values[:, few], axis=0)
    return low, high


def _orders(
    attributes: Iterable[object], strata: Strata, scores: Sequence[str]
) -> tuple[tuple[str, Iterable[object]], ...]:
    return ("attribute", attributes), ("stratum", strata.names), ("score", scores)


def gaps(samples: pd.DataFrame, strata: Strata, higher_is_better: Mapping[str, bool]) -> pd.DataFrame:
    """Worst and best stratum of every attribute and score, how far they are apart, and whether chance explains it.

    Strata under :data:`MIN_STRATUM` photos and the unknown do not take part; rows where fewer than two are left are
    absent. Worst and best are picked by their means, so the largest of several gaps is never 0; the test picks in every
    permutation as well (:func:`semfacediff.records.statistics.max_min_p`, over the photos' means).

    Returns:
        ``attribute, score, worst, best, gap, p, p_holm``: ``gap`` = |mean of best - mean of worst|, ``p_holm``
        corrected over all rows.
    """
    rows = []
    named = strata.of[strata.of != UNKNOWN]
    for attribute, of_attribute in samples.loc[named.index].groupby("attribute", sort=False):
        keys = [of_attribute["sample_id"], named[of_attribute.index]]
        for score, up in higher_is_better.items():
            finite = pd.to_numeric(of_attribute[score]).replace([np.inf, -np.inf], np.nan)
            photos = finite.groupby(keys).mean().dropna().sort_index()
            sizes = photos.groupby(level=1).size()
            enough = [name for name in strata.names if sizes.get(name, 0) >= MIN_STRATUM]
            if len(enough) < 2:
                continue
            photos = photos[photos.index.get_level_values(1).isin(enough)]
            means = photos.groupby(level=1).mean()
            ranked = sorted(enough, key=lambda name: means[name], reverse=up)
            groups = pd.Index(enough).get_indexer(photos.index.get_level_values(1))
            rows.append((attribute, score, ranked[-1], ranked[0], *max_min_p(photos.to_numpy(), groups)))
    table = pd.DataFrame(rows, columns="attribute score worst best gap p".split())
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))

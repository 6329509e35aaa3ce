"""Confusion outside the region, counted by hand, written and read back."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.leakage import Leakage, leakage_table, pooled, written

N = CELEBAMASK.n


def with_labels(pair, seed=0):
    """A pair whose parses are noise."""
    p = pair()
    before, after = np.random.default_rng(seed).integers(0, N, (2, *p.blend.shape))
    return dataclasses.replace(p, labels_before=before, labels_after=after)


def matrix(cell):
    return pooled([cell], N)


@pytest.mark.parametrize("protocol", ["thesis", "strict"])
def test_the_same_parse_is_a_diagonal(pair, protocol):
    p = with_labels(pair)
    counts = matrix(Leakage(protocol).score(dataclasses.replace(p, labels_after=p.labels_before))["leakage"])
    assert np.array_equal(counts, np.diag(np.diag(counts)))
    assert counts.sum() == ((p.blend < 128) if protocol == "thesis" else (p.blend == 0)).sum()


@pytest.mark.parametrize("protocol", ["thesis", "strict"])
def test_counted_pixel_by_pixel_outside(pair, protocol):
    p = with_labels(pair)
    expected = np.zeros((N, N), int)
    for level, a, b in zip(p.blend.ravel(), p.labels_before.ravel(), p.labels_after.ravel(), strict=True):
        if level < 128 if protocol == "thesis" else level == 0:
            expected[a, b] += 1
    assert np.array_equal(matrix(Leakage(protocol).score(p)["leakage"]), expected)


def test_what_happens_inside_the_region_is_not_counted(pair):
    p = with_labels(pair)
    after = np.where(p.blend == 0, p.labels_after, 3)
    assert Leakage("strict").score(dataclasses.replace(p, labels_after=after)) == Leakage("strict").score(p)


def test_more_disturbance_moves_more_pixels_off_the_diagonal(pair):
    p = with_labels(pair)
    moved = []
    for share in (0, 0.1, 0.5):
        struck = np.random.default_rng(0).random(p.blend.shape) < share
        after = np.where(struck, (p.labels_before + 1) % N, p.labels_before)
        counts = matrix(Leakage("strict").score(dataclasses.replace(p, labels_after=after))["leakage"])
        moved.append(counts.sum() - np.trace(counts))
    assert moved[0] == 0 < moved[1] < moved[2]


def test_missing_where_the_parser_has_no_opinion(pair):
    assert Leakage("strict").score(pair()) == {"leakage": None}


def test_nothing_outside_is_an_empty_count(pair):
    p = dataclasses.replace(with_labels(pair), blend=np.full_like(pair().blend, 255))
    assert Leakage("strict").score(p) == {"leakage": ""}


def test_written_counts_are_read_back_and_add():
    a, b = np.random.default_rng(0).integers(0, 3, (2, N, N))
    assert written(np.diag([0, 7, 0])) == "1>1:7"
    assert np.array_equal(pooled([written(a)], N), a)
    assert np.array_equal(pooled([written(a), written(b), ""], N), a + b)
    assert np.array_equal(pooled([], N), np.zeros((N, N)))


def samples(seed=0, n=6):
    counts = np.random.default_rng(seed).poisson(0.05, (n, N, N))
    return pd.DataFrame({"attribute": ["hair", "lips"] * (n // 2), "leakage": [written(c) for c in counts]}), counts


def test_edits_with_nothing_outside_add_nothing():
    """Photos that are all region."""
    assert not pooled(["", ""], 3).any()
    assert np.array_equal(pooled(["", "1>2:5"], 3), pooled(["1>2:5"], 3))


def test_the_table_sums_each_attribute_and_names_the_classes():
    table, counts = samples()
    found = leakage_table(table, CELEBAMASK)
    for attribute, sums in (("hair", counts[::2].sum(0)), ("lips", counts[1::2].sum(0))):
        rows = found[found["attribute"] == attribute]
        assert rows["pixels"].sum() == sums.sum()
        for r in rows.to_dict("records"):
            assert r["pixels"] == sums[CELEBAMASK.index(r["before"]), CELEBAMASK.index(r["after"])]


def test_tables_of_parts_add_up_to_that_of_the_whole():
    table, _ = samples()
    parts = pd.concat([leakage_table(table[:2], CELEBAMASK), leakage_table(table[2:], CELEBAMASK)])
    keys = ["attribute", "before", "after"]
    whole = leakage_table(table, CELEBAMASK).set_index(keys).sort_index()
    pd.testing.assert_frame_equal(parts.groupby(keys).sum(), whole)


def test_rows_without_a_value_enter_nothing():
    table, _ = samples()
    more = pd.concat([table, pd.DataFrame({"attribute": ["hair"], "leakage": [None]})])
    pd.testing.assert_frame_equal(leakage_table(more, CELEBAMASK), leakage_table(table, CELEBAMASK))
    assert leakage_table(pd.DataFrame({"attribute": ["hair"], "leakage": [None]}), CELEBAMASK).empty


def test_labels_outside_the_space_are_refused(pair):
    p = with_labels(pair)
    with pytest.raises(ValueError, match=r"expected labels in 0\.\.18, got"):
        Leakage("strict").score(dataclasses.replace(p, labels_after=p.labels_after + N))


def test_misspelt_protocol_is_refused():
    with pytest.raises(ValueError, match="protocol: expected one of thesis, strict"):
        Leakage("Strict")


def test_identity_tells_protocols_apart():
    assert Leakage("thesis").identity() != Leakage("strict").identity()
    assert Leakage("strict").identity()["higher_is_better"] is None

"""Split rules: a partition that depends on names alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.data.splits import DrawnSubset, SplitRule
from semfacediff.data.subset import Subset
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError

remainders = st.integers(1, 12).flatmap(
    lambda m: st.tuples(st.just(m), st.sets(st.integers(0, m - 1)), st.sets(st.integers(0, m - 1)))
)


@given(
    remainders, st.lists(st.integers(0, 99_999), unique=True, max_size=40), st.sampled_from(["id", "index", "shard"])
)
def test_the_parts_are_a_partition(rule, numbers, by):
    modulo, val, test = rule
    rule = SplitRule(by, modulo, tuple(val), tuple(test - val))
    parts = [rule.part(f"{n:05d}", i, f"shard-{n}") for i, n in enumerate(numbers)]
    assert set(parts) <= {"train", "val", "test"}
    used = range(len(numbers)) if by == "index" else numbers
    for part, number in zip(parts, used, strict=True):
        remainder = number % modulo
        assert part == ("val" if remainder in val else "test" if remainder in test - val else "train")


@given(st.integers(0, 99_999), st.integers(0, 50), st.integers(0, 50))
def test_by_id_the_neighbours_do_not_matter(number, i, k):
    rule = SplitRule(test=(1,))
    assert rule.part(f"face_{number}", i) == rule.part(f"face_{number}", k)


def test_the_number_is_the_one_that_ends_the_name():
    rule = SplitRule(modulo=10, val=(7,))
    assert rule.part("2024-img-00017", 0) == "val"
    assert rule.part("0", 0) == "train"
    assert SplitRule(by="shard", modulo=1000, val=(4,)).part("x", 0, "train-00004") == "val"


@pytest.mark.parametrize(
    ("rule", "id_", "shard", "message"),
    [
        (SplitRule(), "anna", None, r"data.split_rule.by=id needs names that end in a number, got 'anna'; use data"),
        (SplitRule(), "17_anna", None, r"by=id needs names that end in a number, got '17_anna'"),
        (SplitRule(by="shard"), "1", "train-a", r"by=shard needs names that end in a number, got 'train-a'"),
        (SplitRule(by="shard"), "1", None, r"by=shard needs data=shards; use by=id or by=index here"),
    ],
)
def test_a_rule_that_finds_no_number(rule, id_, shard, message):
    with pytest.raises(UserError, match=message):
        rule.part(id_, 0, shard)


def test_a_subset_keeps_the_order_it_is_given():
    faces = ToyFaces(5, 32)
    some = Subset(faces, [3, 1])
    assert some.ids == ["00003", "00001"]
    assert len(some) == 2
    assert some[1].id == "00001"
    assert some.label_space is faces.label_space


def test_a_drawn_subset_has_the_sizes_asked_for_and_nothing_else():
    ids = [f"{i:03d}" for i in range(50)]
    drawn = DrawnSubset.draw(ids, {"train": 20, "val": 5, "test": 3}, seed=1)
    parts = {s: {i for i in ids if drawn.has(s, i, 0)} for s in ("train", "val", "test", "all")}
    assert [len(parts[s]) for s in ("train", "val", "test", "all")] == [20, 5, 3, 28]
    assert parts["train"] | parts["val"] | parts["test"] == parts["all"]
    assert DrawnSubset.draw(ids[::-1], {"train": 20, "val": 5, "test": 3}, seed=1) == drawn
    assert DrawnSubset.draw(ids, {"train": 20, "val": 5, "test": 3}, seed=2) != drawn
    assert max(parts["train"]) > "020"


def test_a_subset_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match=r"data.subset: 28 samples are to be drawn, there are 10; lower its sizes"):
        DrawnSubset.draw([str(i) for i in range(10)], {"train": 20, "val": 5, "test": 3}, seed=1)

"""Which samples belong to which part of a data set: a rule, not a list, so that it survives moving files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from semfacediff.errors import UserError
from semfacediff.seeding import derive_seed

SPLITS = ("train", "val", "test", "all")
SPLIT_LIST = "split.txt"


class Split(Protocol):
    """Says which samples belong to ``train``, ``val``, ``test`` or ``all``."""

    def has(self, split: str, sample_id: str, index: int, shard: str | None = None) -> bool:
        """Whether the sample, the ``index``-th in sorted order, belongs to ``split``."""


@dataclass(frozen=True)
class SplitRule(Split):
    """Assigns each sample to ``train``, ``val`` or ``test``.

    Attributes:
        by: ``id`` takes the number that ends the id; ``index`` the position in sorted order; ``shard`` the number
            that ends the shard's name; ``file`` looks the id up in ``listed``.
        modulo: the number is reduced by this; for ``shard`` it is usually larger than any shard's number.
        val, test: remainders that belong to these parts; everything else is ``train``.
        listed: id -> part, for ``file``.
    """

    by: str = "id"
    modulo: int = 10
    val: tuple[int, ...] = (0,)
    test: tuple[int, ...] = ()
    listed: Mapping[str, str] | None = None

    def has(self, split: str, sample_id: str, index: int, shard: str | None = None) -> bool:
        return split == "all" or self.part(sample_id, index, shard) == split

    def part(self, sample_id: str, index: int, shard: str | None = None) -> str:
        """``train``, ``val`` or ``test`` for one sample; a :class:`UserError` where the rule finds no number."""
        if self.by == "file":
            return self._looked_up(sample_id)
        remainder = self._number(sample_id, index, shard) % self.modulo
        return "val" if remainder in self.val else "test" if remainder in self.test else "train"

    def _looked_up(self, sample_id: str) -> str:
        if self.listed is None:
            raise UserError("data.split_rule.by=file needs data in files; use by=id or by=index here")
        if sample_id not in self.listed:
            raise UserError(f"{SPLIT_LIST}: no line for '{sample_id}'; add one, or set data.split=all")
        return self.listed[sample_id]

    def _number(self, sample_id: str, index: int, shard: str | None) -> int:
        if self.by == "index":
            return index
        text = sample_id if self.by == "id" else shard
        if text is None:
            raise UserError("data.split_rule.by=shard needs data=shards; use by=id or by=index here")
        digits = re.search(r"(\d+)$", text)
        if digits is None:
            raise UserError(
                f"data.split_rule.by={self.by} needs names that end in a number, got '{text}'; "
                f"use data.split_rule.by=index, or data.split=all"
            )
        return int(digits[1])


@dataclass(frozen=True)
class DrawnSubset(Split):
    """Some samples drawn at random for each part; the others belong to none, not even to ``all``."""

    parts: Mapping[str, str]

    def has(self, split: str, sample_id: str, index: int, shard: str | None = None) -> bool:
        part = self.parts.get(sample_id)
        return part is not None and split in ("all", part)

    @classmethod
    def draw(cls, ids: Sequence[str], sizes: Mapping[str, int], seed: int) -> "DrawnSubset":
        """``sizes[part]`` of ``ids`` for each part, by their sorted order and ``seed`` alone.

        Raises:
            UserError: there are fewer ids than the parts need.
        """
        wanted = sum(sizes.values())
        if len(ids) < wanted:
            raise UserError(f"data.subset: {wanted} samples are to be drawn, there are {len(ids)}; lower its sizes")
        order = np.random.default_rng(derive_seed(seed, "subset")).permutation(len(ids))[:wanted]
        drawn, names = [sorted(ids)[i] for i in order], [part for part, n in sizes.items() for _ in range(n)]
        return cls(dict(zip(drawn, names, strict=True)))


def read_split_list(root: Path) -> dict[str, str]:
    """Id -> part from ``root/split.txt``: lines ``<id> train|val|test``, as ``semfacediff prepare`` writes them.

    Raises:
        UserError: not there, or another kind of line.
    """
    parts = {}
    try:
        lines = (root / SPLIT_LIST).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"data.split_rule.by=file: expected {root / SPLIT_LIST} with lines '<id> train|val|test' ({e}); write it, "
            f"or use another rule"
        ) from e
    for n, line in enumerate(lines, 1):
        id_, _, part = line.strip().rpartition(" ")
        if line.strip() and (not id_ or part not in ("train", "val", "test")):
            raise UserError(f"{root / SPLIT_LIST}, line {n}: expected '<id> train|val|test', got '{line.strip()[:80]}'")
        if line.strip():
            parts[id_] = part
    return parts

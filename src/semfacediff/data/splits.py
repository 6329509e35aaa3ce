"""Which samples belong to which part of a data set: a rule, not a list, so that it survives moving files."""

import re
from dataclasses import dataclass

from semfacediff.errors import UserError

SPLITS = ("train", "val", "test", "all")


@dataclass(frozen=True)
class SplitRule:
    """Assigns each sample to ``train``, ``val`` or ``test``.

    Attributes:
        by: ``id`` takes the number that ends the id; ``index`` the position in sorted order; ``shard`` the number
            that ends the shard's name.
        modulo: the number is reduced by this; for ``shard`` it is usually larger than any shard's number.
        val, test: remainders that belong to these parts; everything else is ``train``.
    """

    by: str = "id"
    modulo: int = 10
    val: tuple[int, ...] = (0,)
    test: tuple[int, ...] = ()

    def part(self, sample_id: str, index: int, shard: str | None = None) -> str:
        """``train``, ``val`` or ``test`` for one sample; a :class:`UserError` where the rule finds no number."""
        remainder = self._number(sample_id, index, shard) % self.modulo
        return "val" if remainder in self.val else "test" if remainder in self.test else "train"

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

"""The part of a data set that one run takes, so that several machines share the work."""

import dataclasses

from semfacediff import config
from semfacediff.data.selection import Data
from semfacediff.data.subset import Subset
from semfacediff.errors import UserError


def shard_of(data: Data, shard: config.ShardConfig) -> tuple[Data, dict]:
    """(the shard's samples, facts for its record: none where the run takes all).

    The digest stays that of the whole data set, which every part has read through: parts of different data must not
    be merged.

    Raises:
        UserError: there are more parts than samples.
    """
    if shard.count == 1:
        return data, {}
    total = len(data.faces)
    if shard.count > total:
        raise UserError(f"shard.count={shard.count} is more than the {total} samples; set {total} at most")
    part = Subset(data.faces, range(shard.index, total, shard.count))
    facts = {"index": shard.index, "count": shard.count, "samples": total, "n_expected": data.n_expected}
    return dataclasses.replace(data, faces=part, n_expected=len(part)), {"part_of": facts}

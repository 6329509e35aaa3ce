"""Evaluation photos that a model, or its judge, has seen in training: from the record of the training."""

from collections.abc import Sequence
from pathlib import Path

from semfacediff import config
from semfacediff.data.splits import SplitRule
from semfacediff.errors import UserError
from semfacediff.records.folder import read_run
from semfacediff.weight_files import file_state

UNKNOWN = "unknown"


def training_record(checkpoint: Path, run: str | None) -> dict | None:
    """``run.json`` of the training that left ``checkpoint``: above it, or of that name in ``results/runs``.

    Args:
        run: name of the run on the checkpoint's card.
    """
    places = [checkpoint, *checkpoint.parents[:2]]
    places += [config.results(config.repository()) / "runs" / run] if run else []
    for place in places:
        if file_state(place / "run.json"):
            try:
                return read_run(place)
            except UserError:
                return None
    return None


def train_test_overlap(record: dict | None, data: config.AnyData, ids: Sequence[str]) -> dict:
    """How many of ``ids`` were in the training and in the selection part of a training, for the record of a run.

    The ids are known where training and evaluation read data sets of one kind and the training's split goes by id.

    Returns:
        ``{"in_training": n, "in_selection": n, "of": n}``, or ``{"overlap": "unknown", "why": ...}``.
    """
    if record is None:
        return {"overlap": UNKNOWN, "why": "no record of the training was found"}
    trained = record["identity"]["config"]["data"]
    if trained["name"] != data.name or trained.get("seed") != getattr(data, "seed", None):
        return {"overlap": UNKNOWN, "why": f"it was trained on data={trained['name']}, this run reads data={data.name}"}
    rule = _rule(trained)
    if rule is None:
        return {"overlap": UNKNOWN, "why": "its split does not go by id"}
    parts = [rule.part(id_, 0) for id_ in ids]
    counts: dict[str, object]
    counts = {"in_training": parts.count("train"), "in_selection": parts.count("val"), "of": len(ids)}
    if trained.get("n") is not None or record["identity"]["config"].get("limit") is not None:
        counts["note"] = "at most: its training took only the first photos of these parts"
    return counts


def _rule(trained: dict) -> SplitRule | None:
    plain = trained.get("split_rule")
    if plain is None or plain["by"] != "id" or trained.get("subset") is not None:
        return None
    return SplitRule("id", plain["modulo"], tuple(plain["val"]), tuple(plain["test"]))

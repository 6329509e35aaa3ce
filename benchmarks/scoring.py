"""Scoring label maps: pooled counts beside the loops over classes of a notebook, in photos a second.

    python benchmarks/scoring.py [--photos 24] [--size 512] [--turns 5]

Drawn label maps against themselves, shifted. The plain way goes over each photo and class with masks of booleans and
adds intersections and unions up, as the course report's notebooks do. Both end in the IoU of every class over all
photos and its mean, which must be equal.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from comparing import Comparison, in_turns, shown

from semfacediff.data.toy import ToyFaces
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.segmentation import class_scores, confusion_matrix

WANTED = 4.0
Pairs = list[tuple[np.ndarray, np.ndarray]]


def plain(pairs: Pairs) -> tuple[np.ndarray, float]:
    """(IoU of each class, NaN for one that is nowhere; their mean)."""
    intersections, unions = np.zeros(CELEBAMASK.n), np.zeros(CELEBAMASK.n)
    for truth, predicted in pairs:
        for label in range(CELEBAMASK.n):
            is_true, is_predicted = truth == label, predicted == label
            intersections[label] += np.logical_and(is_true, is_predicted).sum()
            unions[label] += np.logical_or(is_true, is_predicted).sum()
    with np.errstate(invalid="ignore"):
        iou = intersections / unions
    return iou, float(np.nanmean(iou))


def ours(pairs: Pairs) -> tuple[np.ndarray, float]:
    confusion = sum(confusion_matrix(truth, predicted, CELEBAMASK.n) for truth, predicted in pairs)
    table = class_scores(confusion, CELEBAMASK.classes, np.zeros(CELEBAMASK.n, np.int64)).set_index("class")["iou"]
    return table[list(CELEBAMASK.classes)].to_numpy(), table["miou"]


def comparisons(photos: int = 24, size: int = 512, turns: int = 5) -> Iterator[Comparison]:
    pairs = [(s.labels, np.roll(s.labels, 5, axis=1)) for s in ToyFaces(photos, size)]
    (iou, mean), (our_iou, our_mean) = plain(pairs), ours(pairs)
    if not np.allclose(iou, our_iou, rtol=0, atol=1e-12, equal_nan=True) or abs(mean - our_mean) > 1e-12:
        raise SystemExit("the two ways give different scores")
    command = f"python benchmarks/scoring.py --photos {photos} --size {size} --turns {turns}"
    taken = in_turns(lambda: plain(pairs), lambda: ours(pairs), turns)
    yield taken.compared(
        f"scoring label maps {size} px", photos, "photos/s", WANTED, command, f"{photos} photos; IoUs equal"
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=24)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--turns", type=int, default=5)
    a = arguments.parse_args()
    shown(comparisons(a.photos, a.size, a.turns))

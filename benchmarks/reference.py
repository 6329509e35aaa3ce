"""Metrics of ours beside the libraries that they are held to: value, difference and seconds an edit.

    python benchmarks/reference.py [--sizes 512 1024] [--turns 3]

A drawn face and its hair in another colour with noise over the photo; LPIPS with random weights, which take as long as
trained ones. A new photo for every value, so that nothing is kept from the one before.
"""

import argparse
from statistics import median
from time import perf_counter

import numpy as np
import torch

from semfacediff.data.toy import ToyFaces
from semfacediff.labels import ATTRIBUTES, CELEBAMASK
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.metrics.effect import Effect
from semfacediff.metrics.fidelity import SSIM
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.reference import as_reference

SHOWN = {"ssim": "SSIM", "lpips": "LPIPS", "change_de": "change_de (with structure_change)"}
METRICS = (lambda: SSIM("strict"), lambda: LPIPS("strict", None, "random", torch.device("cpu")), Effect)


def pair(size: int, seed: int) -> EditPair:
    face, random = ToyFaces(1, size, seed)[0], np.random.default_rng(seed)
    region = np.isin(face.labels, [CELEBAMASK.index(c) for c in ATTRIBUTES["hair"]])
    noisy = np.clip(face.photo + random.integers(-4, 5, face.photo.shape), 0, 255).astype(np.uint8)
    edit = np.where(region[..., None], noisy[..., ::-1], noisy)
    return EditPair(face.photo, edit, 255 * region.astype(np.uint8), region, region, "blue hair", "hair")


def timed(metric: Metric, given: EditPair) -> tuple[float, float]:
    """(value of the first column, seconds)."""
    start = perf_counter()
    value = metric.score(given)[metric.columns[0]]
    return value, perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    arguments.add_argument("--turns", type=int, default=3)
    asked = arguments.parse_args()
    print("| score | px | ours | library | largest difference | ours, s | library, s | ratio |")
    print("| :-- | --: | --: | --: | --: | --: | --: | --: |")
    for size in asked.sizes:
        for make in METRICS:
            ours, library = make(), as_reference(make())
            rows = [(timed(ours, p), timed(library, p)) for p in (pair(size, seed) for seed in range(asked.turns + 1))]
            (a, _), (b, _) = rows[0]
            difference = max(abs(x - y) for (x, _), (y, _) in rows)
            mine, theirs = (median(row[k][1] for row in rows[1:]) for k in (0, 1))  # the first call warms up
            name = SHOWN[ours.columns[0]]
            cells = f"{a:.6f}", f"{b:.6f}", f"{difference:.1e}", f"{mine:.3f}", f"{theirs:.3f}", f"{theirs / mine:.1f}"
            print("|", " | ".join([name, str(size), *cells]), "|")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

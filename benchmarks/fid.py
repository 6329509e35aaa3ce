"""FID of five attributes' edits: ours beside pytorch-fid's plain way, in attributes a second.

    python benchmarks/fid.py [--photos 8] [--attributes 5] [--size 512]

From the photos and edits to the distance. The plain way does for every attribute what `python -m pytorch_fid` does with
two folders: features of both, mean and `numpy.cov`, `calculate_frechet_distance`. Ours computes the photos' features
once for all attributes, and moments that add. The distance itself, a matrix root, is pytorch-fid's in both; it is the
larger part of small sets, and timed apart with the moments (`moments`). Inception has random weights.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from comparing import Comparison, in_turns, shown

from semfacediff.data.toy import ToyFaces
from semfacediff.metrics.frechet import frechet_distance
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.moments import Moments


def plain_features(network: Inception, photos: list[np.ndarray]) -> np.ndarray:
    """float64 ``[N, 2048]``, as pytorch-fid's ``get_activations`` keeps them; batches of one."""
    with torch.inference_mode():
        return np.concatenate([network.net(2 * network._resized(p) - 1).numpy() for p in photos]).astype(np.float64)


def plain_moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.mean(rows, axis=0), np.cov(rows, rowvar=False)


def comparisons(photos: int = 8, attributes: int = 5, size: int = 512, rows: int = 4096) -> Iterator[Comparison]:
    rng = np.random.default_rng(0)
    command = f"python benchmarks/fid.py --photos {photos} --attributes {attributes} --size {size}"
    yield _features(photos, attributes, size, command)
    many = rng.standard_normal((rows, 2048)).astype(np.float32) ** 2
    _check(*rng.standard_normal((2, 200, 64)))
    as_kept = many.astype(np.float64)  # by pytorch-fid
    mean, covariance = plain_moments(as_kept)
    found = Moments.of(many)
    if not (np.allclose(found.mean, mean, rtol=1e-9) and np.allclose(found.covariance, covariance, atol=1e-9)):
        raise SystemExit("moments differ")
    taken = in_turns(lambda: plain_moments(as_kept), lambda: Moments.of(many).covariance, 3)
    yield taken.compared("fid moments", rows, "photos/s", None, command, f"{rows} features of 2048; equal to 1e-9")


def _features(photos: int, attributes: int, size: int, command: str) -> Comparison:
    network = Inception(None, "random", torch.device("cpu"))
    originals = [face.photo for face in ToyFaces(photos, size)]
    edits = [[np.roll(photo, 1 + k, axis=1) for photo in originals] for k in range(attributes)]

    def plain() -> list[np.ndarray]:
        return [np.stack([plain_features(network, originals), plain_features(network, of_one)]) for of_one in edits]

    def ours() -> list[np.ndarray]:
        before = np.array(list(network.features(originals)))
        return [np.stack([before, np.array(list(network.features(of_one)))]) for of_one in edits]

    if not all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(plain(), ours(), strict=True)):
        raise SystemExit("features differ")
    note = f"{photos} photos, {attributes} attributes; features equal"
    return in_turns(plain, ours, 1).compared("fid features", photos * attributes, "edits/s", None, command, note)


def _check(a: np.ndarray, b: np.ndarray) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance

    plain = calculate_frechet_distance(*plain_moments(a), *plain_moments(b))
    ours = frechet_distance(Moments.of(a), Moments.of(b))
    if abs(plain - ours) > 1e-6 * plain:
        raise SystemExit(f"the distance is {ours}, plainly {plain}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=8)
    arguments.add_argument("--attributes", type=int, default=5)
    arguments.add_argument("--size", type=int, default=512)
    a = arguments.parse_args()
    shown(comparisons(a.photos, a.attributes, a.size))

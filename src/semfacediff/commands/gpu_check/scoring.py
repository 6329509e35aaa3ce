"""Metrics with networks: batches on the device compared with the same photos one by one."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from semfacediff.commands.gpu_check.rows import Row, Sizes, judged, timed
from semfacediff.data.toy import ToyFaces
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.perceptual import LPIPS

_CPU = torch.device("cpu")
_CHECKED = 2
"""Number of photos compared with the CPU's values."""


def pairs(n: int, px: int) -> list[EditPair]:
    """Drawn faces and edits with inverted hair."""
    made = []
    for i in range(n):
        sample = ToyFaces(n, px)[i]
        hair = sample.label_map == CELEBAMASK.index("hair")
        edit = np.where(hair[..., None], 255 - sample.photo, sample.photo // 2 + 40)
        made.append(EditPair(sample.photo, edit, np.uint8(255) * hair, hair, hair, f"natural brown hair, number {i}"))
    return made


def metrics(sizes: Sizes, on: torch.device, _folder: Path) -> Iterator[Row]:
    given = pairs(sizes.metrics_photos, sizes.metrics_px)
    # LPIPS' parts are those of its own network, which cannot be moved.
    lpips, lpips_on_cpu = (LPIPS("strict", None, "random", device) for device in (on, _CPU))
    clip = CLIP(sizes.clip, None, "random", on)
    both: dict[str, tuple[Metric, Metric]] = {"LPIPS": (lpips, lpips_on_cpu), "CLIP": (clip, _on_cpu(clip))}
    for name, (metric, on_cpu) in both.items():
        column = metric.columns[0]

        def together(metric: Metric = metric, column: str = column) -> np.ndarray:
            metric.together = True
            return np.array([scores[column] for scores in metric.scores(given)], np.float64)

        def alone(metric: Metric = metric, column: str = column) -> np.ndarray:
            return np.array([metric.score(pair)[column] for pair in given], np.float64)

        reference = np.array([on_cpu.score(pair)[column] for pair in given[:_CHECKED]], np.float64)
        yield _row(name, sizes, on, together, alone, reference, together()[:_CHECKED])


def _on_cpu(metric: CLIP) -> CLIP:
    made = copy.copy(metric)
    made.net, made.device = copy.deepcopy(metric.net).to(_CPU), _CPU
    made._texts = type(metric._texts)(8)
    return made


def inception(sizes: Sizes, on: torch.device, _folder: Path) -> Iterator[Row]:
    photos = [pair.photo for pair in pairs(sizes.metrics_photos, sizes.metrics_px)]
    network = Inception(None, "random", on)
    on_cpu = copy.copy(network)
    on_cpu.net, on_cpu.device, on_cpu.at_once = copy.deepcopy(network.net).to(_CPU), _CPU, 1
    reference = np.array(list(on_cpu.features(photos[:_CHECKED])))

    def features(at_once: int) -> Callable[[], np.ndarray]:
        def once() -> np.ndarray:
            network.at_once = at_once
            return np.array(list(network.features(photos)))

        return once

    found = features(len(photos))()[:_CHECKED]
    yield _row("Inception", sizes, on, features(len(photos)), features(1), reference, found)


def _row(
    name: str,
    sizes: Sizes,
    on: torch.device,
    together: Callable[[], object],
    alone: Callable[[], object],
    reference: np.ndarray,
    found: np.ndarray,
) -> Row:
    """Values may differ from the CPU's by float32 rounding in deep networks."""
    apart = np.abs(np.subtract(found, reference)).max() / max(np.abs(reference).max(), 0.1)
    faults = [] if apart < 1e-3 else [f"values differ from the CPU's by {apart:.1e} of the largest"]
    title = f"{name}, {sizes.metrics_px} px, batches against photo by photo"
    ours, plain = timed(together, on), timed(alone, on)
    return judged(title, ours, plain, sizes.metrics_photos, faults, 0.9 if sizes.bounded else None)

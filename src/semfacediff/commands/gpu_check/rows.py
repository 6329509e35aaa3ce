"""Rows, sizes and timing of the checks."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from semfacediff.engine.devices import wait
from semfacediff.engine.peak_memory import peak_memory_mib, reset_peak_memory

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the checks; the defaults are realistic.

    Attributes:
        parser, parser_px, parser_batch: the training step. steps: how many are timed.
        sdxl_px, sdxl_photos, sdxl_steps: the edits. sdxl: folder of a pipeline below the check's own.
        metrics_px, metrics_photos, clip: the metrics' photos and architecture.
        sca_dm, sca_dm_batch: preset and photos of a training step. loaded: photos that the loader reads.
        bounded: whether minimum ratios apply; they are meaningless at toy sizes.
    """

    parser: str = "segformer_b5"
    parser_px: int = 512
    parser_batch: int = 8
    steps: int = 10
    sdxl: str = "sdxl_random"
    sdxl_px: int = 1024
    sdxl_photos: int = 8
    sdxl_steps: int = 20
    metrics_px: int = 1024
    metrics_photos: int = 16
    clip: str = "ViT-B-32-quickgelu"
    sca_dm: str = "paper"
    sca_dm_batch: int = 8
    loaded: int = 256
    bounded: bool = True


TOY = Sizes(
    *("segformer_b0", 64, 2, 1),
    *("sdxl_inpaint", 64, 1, 2),
    *(64, 2, "ViT-S-32-alt"),
    *("test", 2, 6),
    bounded=False,
)


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        status: :data:`PASS`, :data:`FAIL` or :data:`SKIPPED`.
        rate: per second, in ``unit``. peak_mib: most memory meanwhile, of CUDA or (on the CPU) of the process so far.
        ratio: to the plain implementation's rate. note: why it failed or was skipped, or a remark.
    """

    name: str
    status: str
    rate: float | None = None
    unit: str = ""
    peak_mib: float | None = None
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Taken:
    """``seconds`` of one call, and the ``peak_mib`` of all."""

    seconds: float
    peak_mib: float


def timed(way: Callable[[], object], on: torch.device, repeats: int = 1) -> Taken:
    """Call ``way`` once to warm up, then time ``repeats`` calls, synchronised with the device."""
    way()
    wait(on)
    reset_peak_memory(on)
    start = time.perf_counter()
    for _ in range(repeats):
        way()
    wait(on)
    return Taken((time.perf_counter() - start) / repeats, peak_memory_mib(on))


def judged(
    name: str,
    ours: Taken,
    plain: Taken | None,
    n: int,
    faults: list[str],
    least: float | None,
    note: str = "",
) -> Row:
    """Row for ``n`` photos per call; it fails with ``faults`` or a ratio below ``least``."""
    ratio = plain.seconds / ours.seconds if plain else None
    if least is not None and ratio is not None and ratio < least:
        faults = [*faults, f"expected at least {least} times the plain implementation's rate, got {ratio:.2f}"]
    text = "; ".join([*faults, *filter(None, [note])])
    return Row(name, FAIL if faults else PASS, n / ours.seconds, "photos/s", ours.peak_mib, ratio, text)

"""SegFace's speed, size and cost: a row a precision and a form, for one photo and for the batch that goes best.

    python benchmarks/segface_speed.py [--backbone mobilenet] [--size 512] [--device cpu|cuda] [--repeats 20]
        [--batches 1 2 4 8] [--precisions float32 half] [--forms eager compiled] [--threads 2]

Each row is measured in a process of its own, after warm-up passes; on CUDA the device is waited for before and after
each pass. Times are medians. GFLOPs count a multiplication and an addition as two operations, for one photo. Memory: on
CUDA the most that torch had allocated, on the CPU the most that the whole process held, weights and libraries included.
Half is float16 on CUDA and bfloat16 on the CPU. Weights are random: the time does not depend on them.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from semfacediff.parsing import build_parser
from semfacediff.parsing.segface.backbones import BACKBONES

WARM_UP = 3
HALF = {"cpu": torch.bfloat16, "cuda": torch.float16}


@dataclass(frozen=True)
class Task:
    """What one row measures."""

    backbone: str
    size: int
    device: str
    precision: str
    form: str
    batches: tuple[int, ...]
    repeats: int
    threads: int


@dataclass(frozen=True)
class Measured:
    """One row: ``latency_ms`` of one photo, ``photos_per_s`` at ``batch``, ``peak_mib``."""

    latency_ms: float
    batch: int
    photos_per_s: float
    peak_mib: float


def seconds(form: Callable[[Tensor], Tensor], x: Tensor, repeats: int) -> float:
    """Median time of a pass."""
    wait = torch.cuda.synchronize if x.is_cuda else lambda: None
    taken = []
    for i in range(WARM_UP + repeats):
        wait()
        start = time.perf_counter()
        form(x)
        wait()
        taken += [time.perf_counter() - start] if i >= WARM_UP else []
    return median(taken)


@torch.inference_mode()
def measured(task: Task) -> Measured:
    """The row of ``task``; run in a process that has done nothing else."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    dtype = torch.float32 if task.precision == "float32" else HALF[task.device]
    model = build_parser(f"segface_{task.backbone}").eval()
    model = model.to(task.device, dtype, memory_format=torch.channels_last)
    form = torch.compile(model) if task.form == "compiled" else model
    rates, latency = {}, float("nan")
    for n in task.batches:
        x = torch.randn(n, 3, task.size, task.size, device=task.device, dtype=dtype)
        taken = seconds(form, x.contiguous(memory_format=torch.channels_last), task.repeats)
        rates[n] = n / taken
        latency = 1000 * taken if n == 1 else latency
    best = max(rates, key=rates.get)
    if task.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(latency, best, rates[best], peak)


def cost(backbone: str, size: int) -> tuple[float, float]:
    """(million parameters, GFLOPs of one photo)."""
    with torch.device("meta"):
        model = build_parser(f"segface_{backbone}").eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, size, size))
    return sum(p.numel() for p in model.parameters()) / 1e6, counter.get_total_flops() / 1e9


def table(tasks: list[Task]) -> None:
    """Measure and print row by row."""
    print("| precision | form | ms, batch 1 | best batch | photos/s there | peak MiB |")
    print("| :-------- | :--- | ----------: | ---------: | -------------: | -------: |", flush=True)
    for task in tasks:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measured, (task,))
        print(
            f"| {task.precision} | {task.form} | {row.latency_ms:.1f} | {row.batch} | {row.photos_per_s:.1f} | "
            f"{row.peak_mib:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--backbone", choices=tuple(BACKBONES), default="mobilenet")
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--device", choices=tuple(HALF), default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--precisions", nargs="+", choices=("float32", "half"), default=["float32", "half"])
    arguments.add_argument("--forms", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    arguments.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--threads", type=int, default=2)
    o = arguments.parse_args()
    batches = tuple(sorted({1, *o.batches}))
    where = torch.cuda.get_device_name() if o.device == "cuda" else f"cpu, {o.threads} threads"
    parameters, gflops = cost(o.backbone, o.size)
    print(f"segface_{o.backbone}, {o.size} px, {where}, median of {o.repeats}")
    print(f"{parameters:.2f} million parameters, {gflops:.2f} GFLOPs a photo\n")
    rest = (batches, o.repeats, o.threads)
    table([Task(o.backbone, o.size, o.device, p, f, *rest) for f in o.forms for p in o.precisions])

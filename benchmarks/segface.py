"""Time of SegFace on one photo: ours beside a plain transcription of its description, same weights, same run.

    python benchmarks/segface.py [--backbone mobilenet] [--size 512] [--threads 2] [--repeats 10]

The two forms take turns, so that other work on the machine disturbs both alike; medians of the clock's and of the
processor's time (all threads of this process) are printed, and by how much the logits differ.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from plain_segface import PlainSegFace
from torch import Tensor

from semfacediff.parsing import build_parser
from semfacediff.parsing.segface.backbones import BACKBONES

WARM_UP = 2


def timed(form: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Seconds (by the clock, of the processor) of one pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    form(x)
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(backbone: str, size: int, threads: int, repeats: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build_parser(f"segface_{backbone}").eval()
    ours = torch.inference_mode()(model.to(memory_format=torch.channels_last))
    plain = PlainSegFace(backbone, model.state_dict())
    x = torch.randn(1, 3, size, size)
    forms = {"plain": (plain, x), "ours": (ours, x.contiguous(memory_format=torch.channels_last))}
    outputs = [form(photo) for form, photo in forms.values()]
    apart = (outputs[0] - outputs[1]).abs().max().item()
    seconds = {name: [] for name in forms}
    for i in range(WARM_UP + repeats):
        for name, (form, photo) in forms.items():
            taken = timed(form, photo)
            seconds[name] += [taken] if i >= WARM_UP else []
    print(f"segface_{backbone}, {size} px, batch 1, {threads} threads, median of {repeats}")
    for name, taken in seconds.items():
        wall, cpu = (median(t) for t in zip(*taken, strict=True))
        print(f"{name:>6}: {1000 * wall:7.0f} ms, {1000 * cpu:7.0f} ms of the processor")
    ratios = [
        median(a) / median(b) for a, b in zip(*(zip(*taken, strict=True) for taken in seconds.values()), strict=True)
    ]
    print(f"ours is {ratios[0]:.2f} times as fast by the clock, {ratios[1]:.2f} times in processor time")
    print(f"largest difference of logits {apart:.1e}, of standard deviation {outputs[0].std():.2f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--backbone", choices=tuple(BACKBONES), default="mobilenet")
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--repeats", type=int, default=10)
    options = arguments.parse_args()
    compare(options.backbone, options.size, options.threads, options.repeats)

"""Time and memory of `segformer_lite` on one photo: fused attention beside the plain matrix of scores.

    python benchmarks/attention.py [--size 512] [--threads 2] [--repeats 3]

Each form runs in a process of its own. Memory: the peak of the resident set over eval forward passes, less what the
process held once the network was built. Time: the quickest of the passes after the first, the forms in turns, so that
other work on the machine disturbs it least. The plain form is the published one; it is kept here alone, as what to
compare with.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from semfacediff.parsing import build_parser
from semfacediff.parsing.segformer_lite import Attention

ROUNDS = 2


def plain_attention(self: Attention, x: Tensor) -> Tensor:
    """As published: ``[N, heads, places, places]`` scores, 2 GiB in the first stage at 512 px."""
    n, c, height, width = x.shape
    qkv = self.qkv(x).reshape(n, 3, self.heads, c // self.heads, height * width)
    q, k, v = qkv.transpose(-1, -2).unbind(1)
    mixed = ((q @ k.transpose(-1, -2)) * (c // self.heads) ** -0.5).softmax(-1) @ v
    return self.proj(mixed.transpose(-1, -2).reshape(n, c, height, width))


def status_mib(field: str) -> float:
    """``VmRSS`` (resident now) or ``VmHWM`` (its peak) of this process; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


@torch.inference_mode()
def measure(form: str, size: int, threads: int, repeats: int) -> str:
    """(MiB added, seconds a photo) of this process, as text."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if form == "plain":
        Attention.forward = plain_attention
    model = build_parser("segformer_lite").eval()
    x = torch.randn(1, 3, size, size)
    loaded = status_mib("VmRSS")
    model(x)
    added = status_mib("VmHWM") - loaded
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        model(x)
        seconds.append(time.perf_counter() - start)
    return f"{added:.1f} {min(seconds):.4f}"


def compare(size: int, threads: int, repeats: int) -> None:
    """Both forms in turns, each time in a fresh process."""
    found = {}
    for form in ("plain", "fused") * ROUNDS:
        words = [sys.executable, __file__, "--form", form, "--size", size, "--threads", threads, "--repeats", repeats]
        out = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=True).stdout
        found.setdefault(form, []).append([float(v) for v in out.split()])
    best = {form: (max(m for m, _ in runs), min(s for _, s in runs)) for form, runs in found.items()}
    for form, (added, seconds) in best.items():
        print(f"{form}: {added:7.1f} MiB added, {seconds:.3f} s a photo")
    ratio = best["plain"][1] / best["fused"][1]
    print(f"{size} px, {threads} threads: the fused form is {ratio:.1f} times as fast")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--form", choices=("plain", "fused"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.form:
        print(measure(options.form, options.size, options.threads, options.repeats))
    else:
        compare(options.size, options.threads, options.repeats)

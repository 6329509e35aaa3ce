"""Several accelerators: same losses as one device on a shared batch, and the speed-up."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff import config
from semfacediff.commands.gpu_check.parsing import PRECISION, a_batch
from semfacediff.commands.gpu_check.rows import SKIPPED, TOY, Row, Sizes, Taken, judged, timed
from semfacediff.engine.devices import choose_device
from semfacediff.engine.processes import processes
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import build_parser
from semfacediff.tasks.training.step import GradientStep, new_accelerator, total

_STEPS = 3
"""Number of steps after which losses are compared."""


def several(sizes: Sizes, on: torch.device, folder: Path, n: int | None = None) -> Iterator[Row]:
    """Args: n: processes; by default as many as there are CUDA devices."""
    n = n or (torch.cuda.device_count() if on.type == "cuda" else 1)
    if n == 1:
        yield Row("several accelerators", SKIPPED, note="this machine has one")
        return
    one, all_ = (_launched(k, sizes, on, folder / f"processes_{k}.json") for k in (1, n))
    apart = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], all_["losses"], strict=True))
    faults = [] if apart < 2e-2 else [f"losses differ from those of one process by {apart:.1e} of their size"]
    ours, plain = Taken(all_["seconds"], all_["peak_mib"]), Taken(n * one["seconds"], one["peak_mib"])
    least = 0.5 * n if sizes.bounded else None
    yield judged(f"training step shared by {n} processes", ours, plain, n * sizes.parser_batch, faults, least)


def _launched(n: int, sizes: Sizes, on: torch.device, out: Path) -> dict:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m"]
    words += [__name__, "--device", on.type, "--out", str(out), *(["--toy"] if sizes is TOY else [])]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{n} processes ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(out.read_text())


def _one_of_them(on: torch.device, sizes: Sizes, out: Path) -> None:
    state = processes(on)
    accelerator = new_accelerator(on, PRECISION)
    rank, world = state.process_index, state.num_processes
    torch.manual_seed(0)
    net = build_parser(sizes.parser, classes=CELEBAMASK.n).to(on)
    for layer in net.modules():  # random draws differ between processes
        if isinstance(layer, nn.Dropout) or "drop" in type(layer).__name__.lower():
            vars(layer).update(p=0.0, drop_prob=0.0)
    net = accelerator.prepare(nn.SyncBatchNorm.convert_sync_batchnorm(net) if on.type == "cuda" else net)
    whole = a_batch(sizes, on)
    share = [part[rank::world] for part in whole]
    photos = sizes.parser_batch

    step, optimiser = GradientStep(accelerator, net, 1.0), torch.optim.AdamW(net.parameters(), 6e-5)

    def once(batch: Sequence[Tensor]) -> float:
        x, y = batch
        with step.autocast():
            logits = net(x)
        loss = step.add(total(F.cross_entropy(logits.float(), y, reduction="sum")) / (photos * y[0].numel()))
        step.update(optimiser)
        return loss.item()

    losses = [once(share) for _ in range(_STEPS)]  # of the same photos, however many processes share them
    taken = timed(lambda: once(whole), on, sizes.steps)  # as many photos for each process
    if state.is_main_process:
        out.write_text(json.dumps({"losses": losses, "seconds": taken.seconds, "peak_mib": taken.peak_mib}))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--device", required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--toy", action="store_true")
    given = arguments.parse_args()
    on = choose_device(config.DeviceConfig(device=given.device))
    _one_of_them(on, TOY if given.toy else Sizes(), given.out)

"""Training speed: photos/s of our loop beside a straightforward one, for each small parser.

    python benchmarks/training_speed.py [--parsers fastscnn_lite ...] [--size 256] [--photos 32] [--root SHARDS]

Draws faces (512 px, JPEG beside PNG) unless --root names WebDataset shards. Both ways train the same network on the
same photos with the same augmentation (none, unless --augment), from decoding to the moved weights.

    plain      batches of 2 float32 tensors, decoded by Pillow in the main process; AdamW on the mean cross-entropy
    ours       what `train_parser.py` does at batch 8 with one worker, decoding each photo
    in memory  the same with train.keep_in_memory=true: the epochs after the photos were decoded once

Ways take turns, as others may be using the machine, after a first step of each that is not counted; a number is the
better of its turns. The plain way has the thresholds that glibc gives itself; see semfacediff/engine/memory.py for
ours. Processor time (all processes, workers and their start included) suffers less from others than the clock, but
counts what runs at the same time twice.
"""

import argparse
import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from training_input import PLAIN, with_pillow, write_faces

from semfacediff import config
from semfacediff.data.batches import loader
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.selection import Data
from semfacediff.data.shards import index_shards
from semfacediff.engine.memory import keep_freed_memory
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing.opening import new_parser
from semfacediff.tasks.training.files import TrainingFiles
from semfacediff.tasks.training.parser_trainer import ParserTrainer
from semfacediff.tasks.training.step import new_accelerator

PARSERS = ("fastscnn_lite", "unet_lite", "deeplabv3plus_lite", "segformer_lite", "face_lite", "segformer_b0")
WORKERS = 1  # the default of train_parser.py
WANTED = 1.5
"""Times the plain loop's speed that `fastscnn_lite` shall have."""


def configured(parser: str, size: int, recipe: str, keep: bool = False) -> config.ParserTraining:
    words = [f"parser={parser}", f"train.size={size}", "train.batch_size=8", f"train.augment={recipe}"]
    words += [f"train.keep_in_memory={str(keep).lower()}", f"runtime.workers={WORKERS}", "runtime.device=cpu"]
    return config.typed(composed("train_parser", words, config.repository()), config.ParserTraining)


def plain_epoch(faces: FileFaces, settings: config.ParserTraining) -> Callable[[int], None]:
    """``epoch(n)`` trains on the first n photos."""
    torch.manual_seed(0)
    size, recipe = settings.train.size, settings.train.augment
    model, _ = new_parser(settings.parser, CELEBAMASK, size)
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)

    def epoch(n: int) -> None:
        _forget_freed_memory()
        for photos, labels in with_pillow(faces, size, recipe, list(range(n))):
            optimiser.zero_grad()
            F.cross_entropy(model(photos), labels).backward()
            optimiser.step()

    return epoch


def _forget_freed_memory() -> None:
    """Undo `keep_freed_memory`: the thresholds to which glibc raises its own after the first large blocks."""
    if keep_freed_memory():
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
        mallopt(-1, 64 << 20)  # M_TRIM_THRESHOLD


def our_epoch(faces: FileFaces, settings: config.ParserTraining, folder: Path) -> Callable[[int], None]:
    """The same with the training's own steps; no validation, no checkpoints."""
    torch.manual_seed(0)
    model, card = new_parser(settings.parser, CELEBAMASK, settings.train.size)
    device, data = torch.device("cpu"), Data(faces, "", {}, len(faces))
    files = TrainingFiles(folder, 1, new_accelerator(device, settings.train.precision))
    trainer = ParserTrainer(model, card, settings, data, data, files, lambda _: None)
    trainer.net.train()

    def epoch(n: int) -> None:
        keep_freed_memory()
        # The last n photos of an epoch; the first step, not counted, needs no worker.
        batches = loader(trainer.view, 8, 0, (len(faces) - n) // 8, WORKERS if n > 8 else 0)
        placed = trainer.view.placed(batches, device)
        for _ in range(len(batches)):
            trainer.take_step(placed, 1)

    return epoch


def measured(epoch: Callable[[int], None], n: int) -> tuple[float, float]:
    """Photos a second, and minus the processor time a photo in ms (so that more is better in both)."""
    start, before = time.perf_counter(), sum(os.times()[:4])
    epoch(n)
    return n / (time.perf_counter() - start), -1000 * (sum(os.times()[:4]) - before) / n


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--parsers", nargs="+", choices=PARSERS, default=PARSERS)
    arguments.add_argument("--size", type=int, default=256)
    arguments.add_argument("--photos", type=int, default=256, help="a turn; a multiple of 8")
    arguments.add_argument("--turns", type=int, default=2)
    arguments.add_argument("--threads", type=int, default=2, help="of torch")
    arguments.add_argument("--augment", choices=list(PLAIN), default="none")
    arguments.add_argument("--root", type=Path, help="shards of real photos instead of drawn faces")
    a = arguments.parse_args()
    n = max(8, a.photos - a.photos % 8)
    cv2.setNumThreads(1)
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as temporary:
        if a.root is None:
            write_faces(Path(temporary), n)
            entries = index_folder(Path(temporary), "images", "masks", labels_needed=True).entries
        else:
            entries = index_shards(a.root, "*.tar", labels_needed=True).entries
        faces = FileFaces(entries[:n], CELEBAMASK)
        print(f"{a.size} px, {n} photos a turn, {a.threads} threads, augment={a.augment}")
        print(f"{'':20} {'photos/s':^41} {'processor ms a photo':^25}")
        ways = f"{'plain':>7} {'ours':>7} {'ratio':>6} {'in memory':>10} {'ratio':>6}"
        print(f"{'parser':20} {ways}   {'plain':>7} {'ours':>7} {'in memory':>10}")
        for parser in a.parsers:
            plain = plain_epoch(faces, configured(parser, a.size, a.augment))
            kinds = [configured(parser, a.size, a.augment, keep) for keep in (False, True)]
            epochs = [plain, *(our_epoch(faces, settings, Path(temporary)) for settings in kinds)]
            epochs[0](2)
            for epoch in epochs[1:]:
                epoch(8)
            turns = [[measured(epoch, n) for epoch in epochs] for _ in range(a.turns)]
            (plain, decoded, kept), ms = np.max(turns, axis=0).T
            rates = f"{plain:7.2f} {decoded:7.2f} {decoded / plain:6.2f} {kept:10.2f} {kept / plain:6.2f}"
            wanted = f"  (wanted: {WANTED})" if parser == "fastscnn_lite" else ""
            print(f"{parser:20} {rates}   {-ms[0]:7.1f} {-ms[1]:7.1f} {-ms[2]:10.1f}{wanted}", flush=True)


if __name__ == "__main__":
    main()

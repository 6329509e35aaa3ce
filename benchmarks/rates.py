"""Rates that a user waits for: drawn faces per second, and edits per second of the benchmark around `recolor`.

    python benchmarks/rates.py [--size 512] [--faces 24]

Edits: parse, recolour, composite, parse again (final and raw), SSIM, PSNR and IoU, written as `evaluate.py` does.
The parser is untrained (its time does not depend on its weights) and the regions are those of the
drawn labels, so that every attribute is really edited.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from semfacediff import config
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.opening import open_editor
from semfacediff.editing.prompts.words import Words
from semfacediff.hydra_app import composed
from semfacediff.metrics.opening import open_metrics
from semfacediff.parsing import ModelParser, ParserCard, build_parser
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.sample_row import Parsers

ATTRIBUTES = ["hair", "lips", "skin", "eyes", "eyebrows"]


class LabelledParser(ModelParser):
    """Runs the network for its time and answers with the drawn labels."""

    def before(self, sample, photo):
        super().before(sample, photo)
        return torch.from_numpy(sample.labels).long()

    def after(self, sample, attribute, photo):
        super().after(sample, attribute, photo)
        return torch.from_numpy(sample.labels).long()


class Drawn(list):
    """Samples held in memory, so that drawing them is not timed."""

    @property
    def ids(self) -> list[str]:
        return [sample.id for sample in self]


def toy_rate(size: int, n: int = 60) -> float:
    """Drawn faces per second on one core."""
    faces = ToyFaces(n + 2, size)
    _ = faces[n], faces[n + 1]
    start = time.perf_counter()
    for i in range(n):
        _ = faces[i]
    return n / (time.perf_counter() - start)


def edit_rate(size: int, n: int) -> float:
    """Edits per second of the editing benchmark."""
    words = [f"data.count={n}", f"data.size={size}", "metrics=no_weights", f"attributes=[{','.join(ATTRIBUTES)}]"]
    settings = config.typed(composed("evaluate", words, config.repository()), config.EditingEvaluation)
    faces = [ToyFaces(n, size)[i] for i in range(n)]
    card = ParserCard.of_kind("fastscnn_lite", "celebamask", 512)
    parser = LabelledParser(build_parser("fastscnn_lite"), card, torch.device("cpu"))
    editor, _ = open_editor(settings.editor, torch.device("cpu"))
    metrics = open_metrics(settings, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        cells = [EditSpec(attribute, Words(settings.prompts[attribute])) for attribute in ATTRIBUTES]
        bench = EditingBench(settings, Drawn(faces), Parsers(parser, parser), editor, metrics, Path(folder), cells)
        start = time.perf_counter()
        bench.run()
        return n * len(ATTRIBUTES) / (time.perf_counter() - start)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--faces", type=int, default=24)
    options = arguments.parse_args()
    print(f"drawn faces, 256 px: {toy_rate(256):.1f} a second")
    rate = edit_rate(options.size, options.faces)
    print(f"edits, {options.size} px: {rate:.1f} a second ({torch.get_num_threads()} threads)")

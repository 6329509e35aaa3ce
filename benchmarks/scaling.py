"""What each stage of the editing benchmark costs, and whether the sum of them foretells a larger run.

    python benchmarks/scaling.py [--size 512] [--protocol thesis] [--photos 2 6] [--every]

Processor time of one thread, around an editor that costs nothing (editing.py): stages are timed in a run of the first
number of photos; from their costs a photo and an edit the processor time of the other runs is foretold, and compared
with what they took. --every adds LPIPS and CLIP (random weights) to the scores. Also prints what a sample leaves on the
disk. docs/scaling.md reads these numbers.
"""

import argparse
import os

os.environ.setdefault("TQDM_DISABLE", "1")

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from editing import ATTRIBUTES, CPU, FreeEditor, parser_of, write_photos

from semfacediff import config
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.prompts.words import Words
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.geometry import GeometryShift
from semfacediff.metrics.leakage import Leakage
from semfacediff.metrics.mask_iou import MaskIoU
from semfacediff.metrics.opening import Metrics
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.seam import Seam
from semfacediff.tasks.editing import bench as editing_bench
from semfacediff.tasks.editing import sample_row as edit_scoring
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.sample_row import Parsers

OF_PHOTO = ("read", "parse photo", "face facts")


class Ledger:
    """Processor seconds of the calling thread by stage."""

    def __init__(self):
        self.seconds: Counter[str] = Counter()

    def timed(self, stage: str, work: Callable) -> Callable:
        def measured(*args, **kwargs):
            start = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds[stage] += time.thread_time() - start

        return measured


class Timed:
    """A benchmark whose stages write into a ledger."""

    def __init__(self, root: Path, protocol: str, every: bool):
        words = ["data=folder", f"data.root={root}", f"protocol={protocol}", "runtime.device=cpu", "metrics=no_weights"]
        self.settings = config.typed(composed("evaluate", words, config.repository()), config.EditingEvaluation)
        self.root, self.ledger = root, Ledger()
        timed = self.ledger.timed
        self.parser, self.editor = parser_of("face_lite"), FreeEditor()
        self.parser.before, self.parser.after = (
            timed(stage, getattr(self.parser, name)) for stage, name in (("parse photo", "before"), ("parse", "after"))
        )
        self.editor.edit = timed("edit", self.editor.edit)
        self.metrics = [SSIM(protocol), PSNR(protocol), MaskIoU(protocol), Seam(), GeometryShift(), Leakage(protocol)]
        if every:
            self.metrics += [LPIPS(protocol, None, "", CPU), CLIP("ViT-B-32-quickgelu", None, "", CPU)]
        for metric in self.metrics:
            metric.score = timed(metric.columns[0], metric.score)
        for module, name, stage in (
            (editing_bench, "face_facts", "face facts"),
            (editing_bench, "region_masks", "masks"),
            (editing_bench, "mask_facts", "mask digests"),
            (edit_scoring, "composite", "composite"),
            (edit_scoring, "encoded_png", "encode"),
            (edit_scoring, "write_bytes", "write"),
        ):
            setattr(module, name, timed(stage, getattr(module, name)))

    def run(self, n: int, out: Path) -> tuple[float, dict[str, float]]:
        """(processor seconds of the whole, of each stage) of ``n`` photos."""
        self.ledger.seconds.clear()
        faces = FileFaces(index_folder(self.root, "images", "masks", labels_needed=False).entries[:n], CELEBAMASK)
        read = self.ledger.timed("read", type(faces).__getitem__)
        watched = type("Watched", (FileFaces,), {"__getitem__": read})(faces.entries, CELEBAMASK)
        cells = [EditSpec(a, Words(self.settings.prompts[a])) for a in ATTRIBUTES]
        parsers = Parsers(self.parser, self.parser)
        bench = EditingBench(self.settings, watched, parsers, self.editor, Metrics(self.metrics), out, cells)
        start = time.process_time()
        bench.run()
        seconds = time.process_time() - start
        bench.log.close()
        return seconds, dict(self.ledger.seconds)


def per_unit(seconds: float, stages: dict[str, float], n: int) -> tuple[dict[str, float], dict[str, float]]:
    """(seconds a photo, seconds an edit) of each stage; what no stage holds counts as the edits'."""
    of_photo = {k: v / n for k, v in stages.items() if k in OF_PHOTO}
    of_edit = {k: v / n / len(ATTRIBUTES) for k, v in stages.items() if k not in OF_PHOTO}
    rest = (seconds - sum(stages.values())) / n / len(ATTRIBUTES)
    return of_photo, {**of_edit, "all else": rest}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--protocol", choices=("thesis", "strict"), default="strict")
    arguments.add_argument("--photos", type=int, nargs="+", default=[2, 6], help="of the runs; the first is timed")
    arguments.add_argument("--every", action="store_true")
    a = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_photos(root, max(a.photos), a.size)
        timed = Timed(root, a.protocol, a.every)
        timed.run(1, root / "first")  # not counted
        first, *others = a.photos
        of_photo, of_edit = per_unit(*timed.run(first, root / "timed"), first)
        print(f"{a.size} px, {a.protocol}: ms of one core, of {first} photos and {len(ATTRIBUTES)} attributes")
        for title, stages in (("a photo", of_photo), ("an edit", of_edit)):
            parts = ", ".join(f"{k} {1000 * v:.1f}" for k, v in sorted(stages.items(), key=lambda kv: -kv[1]))
            print(f"{title}: {1000 * sum(stages.values()):.0f} = {parts}")
        for n in others:
            foretold = n * (sum(of_photo.values()) + len(ATTRIBUTES) * sum(of_edit.values()))
            took, _ = timed.run(n, root / str(n))
            print(f"{n} photos: foretold {foretold:.2f} s, took {took:.2f} s ({100 * (took / foretold - 1):+.0f} %)")
        edits, log = list((root / "timed").rglob("*.png")), root / "timed" / "samples.jsonl"
        kib = [sum(f.stat().st_size for f in files) / len(edits) / 1024 for files in (edits, [log])]
        print(f"on the disk, KiB an edit: {kib[0]:.0f} as PNG, {kib[1]:.1f} of samples.jsonl")


if __name__ == "__main__":
    main()

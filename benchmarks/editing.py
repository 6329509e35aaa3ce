"""The editing benchmark around an editor that costs nothing: ours beside the published procedure, in edits a second.

    python benchmarks/editing.py [--photos 3] [--size 1024] [--turns 2] [--only NAME ...]

Drawn faces as JPEG files, five attributes. The editor tints the region and disturbs every pixel a little, as a VAE
does, so that under `strict` the edit is scored before and after the composite. Both ways read the files, save the edits
and compute the same numbers, which are compared first. LPIPS and CLIP have random weights: their time is that of the
published ones. The plain way (plain_editing.py) uses torch's threads within each operation, ours a photo a core.

The plain way saves with Pillow's defaults, as a script does; --same-png gives it the encoder of ours instead, so that
the difference can be read.
"""

import argparse
import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from comparing import Comparison, in_turns, shown
from PIL import Image
from plain_editing import PlainEditing

from semfacediff import config
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.base import Editor, EditRequest
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
from semfacediff.parsing import ModelParser, ParserCard, build_parser, load_parser
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.folding import fold_batch_norms
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.sample_row import Parsers, encoded_png

ATTRIBUTES = ("hair", "lips", "skin", "eyes", "eyebrows")
CPU = torch.device("cpu")
WANTED = {
    ("thesis", "face_lite", "every"): 1.3,
    ("strict", "face_lite", "every"): 1.8,
    ("thesis", "face_lite", "three"): 3.0,
    ("thesis", "segformer_b0", "three"): 1.4,
}
"""(protocol, parser, metrics) -> times the plain way's edits a second; metrics ``three``: SSIM, IoU and PSNR alone."""
TOLERANCE, TOLERANCE_OF_LABELS, FEW = 1e-5, 1e-3, 40


def free_edit(photo: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """float32 ``[3, H, W]``: the region tinted, all of it rippled."""
    ripple = 0.02 * torch.sin(torch.arange(photo.shape[-1]) * 1.7)
    tint = torch.tensor([0.15, -0.05, 0.10])[:, None, None] * region
    return (photo + ripple + tint).clamp_(0, 1)


class FreeEditor(Editor):
    name, native_size, batchable = "free", None, True

    def edit(self, requests: list[EditRequest]) -> list[torch.Tensor]:
        return [free_edit(r.photo, r.masks.generation[0] > 0) for r in requests]


def parser_of(name: str, folded: bool = True) -> ModelParser:
    """The one in the package, or a fresh one: what it costs does not depend on its weights.

    Args:
        folded: as ``evaluate.py`` opens it; otherwise as it was trained.
    """
    torch.manual_seed(0)
    shipped = name == "face_lite"
    model, card = load_parser(default_parser()) if shipped else (build_parser(name), None)
    if folded:
        fold_batch_norms(model.eval())
    return ModelParser(model, card or ParserCard.of_kind(name, "celebamask", 512), CPU)


class Case:
    """Both ways over the same photos."""

    def __init__(self, root: Path, protocol: str, parser: str, metrics: str, same_png: bool = False):
        self.root, self.every = root, metrics == "every"
        words = ["data=folder", f"data.root={root}", f"protocol={protocol}", "runtime.device=cpu", "metrics=no_weights"]
        cfg = composed("evaluate", words, config.repository())
        self.settings = config.typed(cfg, config.EditingEvaluation)
        self.prompts = {a: self.settings.prompts[a] for a in ATTRIBUTES}
        self.protocol, self.same_png = protocol, same_png
        self.parser, self.plain_parser = parser_of(parser), parser_of(parser, folded=False)
        self.lpips = LPIPS(protocol, None, "random", CPU) if self.every else None
        self.clip = CLIP("ViT-B-32-quickgelu", None, "random", CPU) if self.every else None
        self.more = [Seam(), GeometryShift(), Leakage(protocol)] if self.every else []

    def plain(self, n: int | None = None) -> list[dict]:
        photos = sorted((self.root / "images").iterdir())[:n]
        parts = (self.protocol, photos, self.plain_parser, free_edit, self.prompts, self.lpips, self.clip, self.more)
        with tempfile.TemporaryDirectory() as out, _saving(self.same_png):
            return list(PlainEditing(*parts).rows(Path(out)))

    def ours(self, n: int | None = None) -> list[dict]:
        protocol = self.protocol
        metrics = [SSIM(protocol), PSNR(protocol), MaskIoU(protocol), *self.more]
        # A fresh one each time, for it remembers photos.
        metrics += [LPIPS(protocol, None, "random", CPU), self.clip] if self.every else []
        entries = index_folder(self.root, "images", "masks", labels_needed=False).entries[:n]
        cells = [EditSpec(a, Words(p)) for a, p in self.prompts.items()]
        with tempfile.TemporaryDirectory() as out:
            faces, parsers = FileFaces(entries, CELEBAMASK), Parsers(self.parser, self.parser)
            bench = EditingBench(self.settings, faces, parsers, FreeEditor(), Metrics(metrics), Path(out), cells)
            bench.run()
            bench.log.close()
            return bench.log.rows

    def check(self) -> None:
        """The numbers of the first photo are the same both ways."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as ours computes: more of them may round otherwise
        plain = {(r["sample_id"], r["attribute"]): r for r in self.plain(1)}
        torch.set_num_threads(threads)
        for row in self.ours(1):
            expected = plain[row["sample_id"], row["attribute"]]
            for name, value in expected.items():
                if not _same(value, row[name], name):
                    raise SystemExit(f"{row['sample_id']}/{row['attribute']}: {name} is {row[name]}, plainly {value}")


def _same(a: object, b: object, name: str) -> bool:
    """Whether two values agree; the two ways' label maps may differ in a few pixels between nearly equal classes."""
    if a is None or b is None:
        return a is b
    if isinstance(a, str) and not name.startswith("leakage"):
        return a == b
    if isinstance(a, str):
        counts = [dict(cell.split(":") for cell in cells.split()) for cells in (a, b)]
        pixels = [sum(abs(int(x.get(k, 0)) - int(y.get(k, 0))) for k in x) for x, y in (counts, counts[::-1])]
        return max(pixels) <= FEW
    tolerance = TOLERANCE_OF_LABELS if name.startswith(("iou", "geometry")) else TOLERANCE
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


@contextlib.contextmanager
def _saving(same_png: bool) -> Iterator[None]:
    """Let Pillow save with the encoder of ours."""
    before = Image.Image.save
    if same_png:
        import numpy as np

        Image.Image.save = lambda picture, file: Path(file).write_bytes(encoded_png(np.asarray(picture)))
    try:
        yield
    finally:
        Image.Image.save = before


def write_photos(root: Path, n: int, size: int) -> None:
    (root / "images").mkdir(parents=True)
    for sample in ToyFaces(n, size):
        Image.fromarray(sample.photo).save(root / "images" / f"{sample.id}.jpg", quality=92)


def comparisons(
    photos: int = 3, size: int = 1024, turns: int = 2, only: tuple[str, ...] = (), same_png: bool = False
) -> Iterator[Comparison]:
    """One for each of :data:`WANTED`."""
    command = f"python benchmarks/editing.py --photos {photos} --size {size} --turns {turns}"
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_photos(root, photos, size)
        for (protocol, parser, metrics), wanted in WANTED.items():
            name = f"editing {protocol} {parser} {metrics}"
            if only and not any(part in name for part in only):
                continue
            case = Case(root, protocol, parser, metrics, same_png)
            case.check()
            taken = in_turns(case.plain, case.ours, turns)
            note = f"{size} px, {photos} photos, 5 attributes, {torch.get_num_threads()} threads; numbers equal"
            yield taken.compared(name, photos * len(ATTRIBUTES), "edits/s", wanted, command, note)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=3)
    arguments.add_argument("--size", type=int, default=1024)
    arguments.add_argument("--turns", type=int, default=2)
    arguments.add_argument("--only", nargs="+", default=[], help="parts of the names")
    arguments.add_argument("--same-png", action="store_true", help="the plain way encodes as ours does")
    a = arguments.parse_args()
    shown(comparisons(a.photos, a.size, a.turns, tuple(a.only), a.same_png))

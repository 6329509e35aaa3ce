"""What a job of a sweep adds to its own work: python benchmarks/sweeps.py [--photos 20] [--tiny FOLDER]

Two sweeps of five cells in one process, over toy faces in files: fresh ones (the bench's own time taken off), then the
same again, all of them finished. A parser's checkpoint and AlexNet of random weights take part. With --tiny, a folder
made by ``semfacediff doctor --make-tiny``, a pipeline of diffusers edits; opening it is what a job adds.
"""

import argparse
import io
import os
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from PIL import Image

from semfacediff import config, hydra_app, tasks
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.diffusion import InpaintEditor
from semfacediff.parsing import build_parser, save_parser
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.tasks.editing import evaluate as evaluate_editing
from semfacediff.tasks.editing.bench import EditingBench

ROOT = Path(__file__).resolve().parents[1]
_work = [0.0]


def timed(call, sign=1):
    def measured(*args):
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            _work[0] += sign * (time.perf_counter() - start)

    return measured


def written(folder: Path, n: int) -> None:
    """Toy faces of 256 px as ``data=folder``, and an untrained parser."""
    faces = ToyFaces(n, 256)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i in range(n):
        Image.fromarray(faces[i].photo).save(folder / "images" / f"{faces.ids[i]}.png")
        Image.fromarray(faces[i].labels).save(folder / "masks" / f"{faces.ids[i]}.png")
    card = ParserCard.of_kind("fastscnn_lite", "celebamask", 128)
    save_parser(build_parser("fastscnn_lite", classes=19), card, folder / "parser")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photos", type=int, default=20)
    arguments.add_argument("--tiny", help="folder of a pipeline of diffusers with random weights")
    asked = arguments.parse_args()
    n, tiny = asked.photos, asked.tiny
    InpaintEditor.prepare = timed(InpaintEditor.prepare, -1)
    evaluate_editing._finish, EditingBench.run = timed(evaluate_editing._finish), timed(EditingBench.run)
    os.environ["SEMFACEDIFF_SWEEP"] = "benchmark"
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        written(root, n)
        words = [
            "data=folder", f"data.root={root}", "data.split=all", f"parser.checkpoint={root}/parser", "strips=0",
            "metrics.columns=[ssim,psnr,lpips,iou]", "weights.lpips_alexnet=random", "attributes=[hair]",
        ]  # fmt: skip
        of_tiny = (
            f"editor=sdxl_inpaint weights.root={tiny} editor.native_size=64 editor.steps=2 metrics.on_missing=skip"
        )
        words += of_tiny.split() if tiny else []
        varied = "editor.guidance" if tiny else "region.feather_sigma_px"
        for sweep in ("fresh", "finished"):
            for i, value in enumerate((1.0, 3.0, 5.0, 7.0, 9.0)):
                start, _work[0] = time.perf_counter(), 0.0
                cfg = hydra_app.composed("evaluate", [*words, f"{varied}={value}"], ROOT)
                settings = config.typed(cfg, config.EditingEvaluation)
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    tasks.start(settings, root / f"cell{i}")
                whole = time.perf_counter() - start
                print(f"{sweep} job {i}: {whole:.2f} s, of it {_work[0]:.2f} s work: adds {whole - _work[0]:.2f} s")


if __name__ == "__main__":
    main()

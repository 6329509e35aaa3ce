"""Parsers at work: ms a photo from pixels to a label map, by model, batch, precision and backend.

    python benchmarks/parser_speed.py [--parsers face_lite ...] [--size 512] [--batch 1 4] [--repeats 10] [--compile]

The plain way gives the network one photo after another in the usual layout (NCHW) and enlarges all logits. Ours is what
`evaluate.py` and `semfacediff parse` do. How many pixels agree is noted; fewer than 99.99 % in float32 is an error.
`compiled` needs a minute or two for each network, and is left out without --compile. Networks are untrained but for
face_lite, whose time is promised: 30 ms at 512 px with two threads of a machine that does nothing else.
"""

import argparse
import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from comparing import Comparison, in_turns, shown
from torch import Tensor

from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.parsing import ModelParser, ParserCard, build_parser, load_parser
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.exporting import exported, write_onnx
from semfacediff.parsing.folding import fold_batch_norms
from semfacediff.parsing.onnx_model import OnnxModel
from semfacediff.types import to_tensor

PARSERS = ("face_lite", "fastscnn_lite", "unet_lite", "segformer_b0")
SHIPPED, SHIPPED_MS = "face_lite", 30.0
CPU = torch.device("cpu")


def parser_of(name: str, size: int, folded: bool = True, precision: torch.dtype = torch.float32) -> ModelParser:
    """Args: folded: as ``evaluate.py`` opens it; otherwise as it was trained."""
    torch.manual_seed(0)
    model, card = load_parser(default_parser()) if name == SHIPPED else (build_parser(name), None)
    if folded:
        fold_batch_norms(model.eval())
    return ModelParser(model, card or ParserCard.of_kind(name, "celebamask", size), CPU, precision)


@torch.inference_mode()
def plain(parser: ModelParser, photos: Tensor) -> Tensor:
    """int64 ``[N, H, W]`` from float32 ``[N, 3, H, W]`` in [0, 1]."""
    maps, side = [], (parser.card.input_size,) * 2
    for photo in photos.split(1):
        x = photo
        if x.shape[-2:] != side:
            x = F.interpolate(x, size=side, mode="bilinear", align_corners=False, antialias=True)
        logits = parser.model(((x - parser._mean) / parser._std).contiguous())
        maps.append(F.interpolate(logits, size=photo.shape[-2:], mode="bilinear", align_corners=False).argmax(1))
    return torch.cat(maps)


def compiled(parser: ModelParser) -> Callable[[Tensor], Tensor]:
    """With the part of the network that it calls compiled."""
    if hasattr(parser.model, "coarse"):
        parser.model.coarse = torch.compile(parser.model.coarse)
    else:
        parser.model = torch.compile(parser.model)
    return parser.predict


def onnx(parser: ModelParser, folder: Path) -> Callable[[Tensor], Tensor] | None:
    """``None`` where the packages of the extra ``export`` are not installed."""
    with contextlib.suppress(UserError):
        program, _ = exported(parser.model.to(memory_format=torch.contiguous_format), parser.card.input_size)
        write_onnx(program, folder / "model.onnx", None, {})
        return ModelParser(OnnxModel(folder / "model.onnx"), parser.card, CPU).predict
    return None


def ways(name: str, size: int, batch: int, compile_too: bool, folder: Path) -> Iterator[tuple[str, Callable]]:
    """(what differs from the plain way, how) of every way that this machine has."""
    yield "float32", parser_of(name, size).predict
    if batch > 1:
        return
    yield "bfloat16", parser_of(name, size, precision=torch.bfloat16).predict
    if compile_too or name == SHIPPED:
        yield "float32 compiled", compiled(parser_of(name, size))
    if name == SHIPPED and (way := onnx(parser_of(name, size, folded=False), folder)):
        yield "float32 onnx", way


def comparisons(
    parsers: tuple[str, ...] = PARSERS,
    size: int = 512,
    batches: tuple[int, ...] = (1, 4),
    repeats: int = 8,
    compile_too: bool = False,
) -> Iterator[Comparison]:
    for name in parsers:
        for batch in batches:
            photos = torch.stack([to_tensor(face.photo) for face in ToyFaces(batch, size)])
            command = f"python benchmarks/parser_speed.py --parsers {name} --batch {batch} --size {size}"
            with tempfile.TemporaryDirectory() as folder:
                for form, way in ways(name, size, batch, compile_too, Path(folder)):
                    c = compared(
                        f"parse {name} batch {batch} {form}", parser_of(name, size, folded=False), photos, way, repeats
                    )
                    promised = (name, batch, size) == (SHIPPED, 1, 512) and form in ("float32", "bfloat16")
                    limit = {"wanted": SHIPPED_MS, "at_most": True} if promised else {}
                    yield dataclasses.replace(c, command=command, **limit)


def compared(title: str, parser: ModelParser, photos: Tensor, way: Callable, repeats: int) -> Comparison:
    """One way of parsing beside the plain one."""
    agree = (way(photos) == plain(parser, photos)).float().mean().item()
    if agree < (0.9999 if title.endswith("float32") else 0.9):
        raise SystemExit(f"{title}: {100 * agree:.2f} % of the pixels agree with the plain way")
    taken = in_turns(lambda: plain(parser, photos), lambda: way(photos), repeats)
    note = f"{torch.get_num_threads()} threads; {100 * agree:.3f} % of the pixels agree"
    return taken.compared(title, len(photos), "ms/photo", None, "", note)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--parsers", nargs="+", default=PARSERS)
    arguments.add_argument("--size", type=int, default=512)
    arguments.add_argument("--batch", nargs="+", type=int, default=(1, 4))
    arguments.add_argument("--repeats", type=int, default=10)
    arguments.add_argument("--compile", action="store_true", help="every parser, not the shipped one alone")
    a = arguments.parse_args()
    shown(comparisons(tuple(a.parsers), a.size, tuple(a.batch), a.repeats, a.compile))

"""``semfacediff export``: exports a trained parser and compares it with the original before writing."""

import functools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import SegformerForSemanticSegmentation

from semfacediff import __version__, config
from semfacediff.commands.export.hub_folder import push, write_hub_folder, write_model_card, write_side_files
from semfacediff.commands.photo_folder import photos_of
from semfacediff.data.reading import Blob, decode_photo
from semfacediff.data.square import to_square
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError, printable
from semfacediff.folders import replacing
from semfacediff.parsing import ModelParser, load_parser
from semfacediff.parsing.any_photo import parse_any
from semfacediff.parsing.checkpoint import (
    ONNX,
    PROGRAM,
    WEIGHTS,
    ParserCard,
    resolve,
    write_card,
    write_weights,
)
from semfacediff.parsing.exporting import Program, exported, half_precision, quantise, write_onnx
from semfacediff.parsing.onnx_model import load_onnx
from semfacediff.parsing.opening import open_trained, or_shipped
from semfacediff.parsing.segformer import SegFormer
from semfacediff.records.writing import write_errors
from semfacediff.types import to_tensor

KINDS = ("half", "hf", "onnx", "torch")
TOLERANCE = 1e-4
"""Largest allowed difference between logits of the export and of the network in torch."""
INT8 = "int8"
_COMPANIONS = ("MODEL_CARD.md", "LICENSE-WEIGHTS")
_DRAWN = 8


@dataclass(frozen=True)
class ExportOptions:
    """Options of the command line.

    Attributes:
        checkpoint: run, checkpoint folder or weights file; ``None``: the parser that ships with the package.
        to: one of :data:`KINDS`. out: new folder.
        architecture: of a bare weights file.
        int8: also a quantised ONNX file. opset: of ONNX.
        photos: photo or folder of photos to compare label maps on; ``None``: drawn faces.
        push: with ``hf``: name on the model hub to upload it to.
    """

    checkpoint: str | None
    to: str
    out: Path
    architecture: str | None = None
    int8: bool = False
    opset: int | None = None
    photos: Path | None = None
    push: str | None = None


@dataclass(frozen=True)
class _Source:
    model: nn.Module
    card: ParserCard
    digest: str
    folder: Path | None

    @property
    def parser(self) -> ModelParser:
        return ModelParser(self.model, self.card, torch.device("cpu"))


def export_parser(options: ExportOptions) -> int:
    """Write ``out`` and print the differences; returns 0.

    Raises:
        UserError: unknown parser, ``out`` is not empty, packages are missing, or the logits differ.
    """
    _check(options)
    source = _source(options)
    if options.to != "half" and source.card.uses_landmarks:
        raise UserError(
            f"--to {options.to}: a {source.card.name} for {source.card.label_space} needs landmarks besides the photo, "
            f"which an exported graph does not accept; use --to half"
        )
    photos = _photos(options.photos, source.card.input_size)
    with write_errors(options.out), replacing(options.out) as new:
        lines = {"half": _half, "hf": _hf, "onnx": _onnx, "torch": _torch}[options.to](source, photos, new, options)
        for name in _COMPANIONS:
            if source.folder and (source.folder / name).is_file():
                shutil.copyfile(source.folder / name, new / name)
    print(f"{source.card.name} ({source.digest[:8]}...) -> {options.out}", *lines, sep="\n")
    if options.push:
        print(f"uploaded: {push(options.out, options.push)}")
    return 0


def _check(options: ExportOptions) -> None:
    if options.to != "onnx" and (options.int8 or options.opset is not None):
        raise UserError(f"--to {options.to}: --int8 and --opset are for --to onnx; drop them")
    if options.to != "hf" and options.push:
        raise UserError(f"--to {options.to}: --push is for --to hf; drop it")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UserError(f"--out: {options.out} is not empty; give a new folder")


def _source(options: ExportOptions) -> _Source:
    settings = or_shipped(config.ParserConfig.trained(options.checkpoint, options.architecture))
    if settings.checkpoint is None:
        raise UserError("no parser ships with this version; name RUN (a run of train_parser.py or a checkpoint folder)")
    path = Path(settings.checkpoint).expanduser()
    model, card, digest = open_trained(settings)
    return _Source(model, card, digest, None if path.is_file() else resolve(path))


def _photos(where: Path | None, side: int) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> function that reads or draws a photo uint8 ``[H, W, 3]``."""
    if where is None:
        drawn = ToyFaces(_DRAWN, side)
        return {f"drawn face {i}": functools.partial(lambda i: drawn[i].photo, i) for i in range(_DRAWN)}
    readable: dict[str, Callable[[], np.ndarray]] = {}
    found = photos_of(where.expanduser())
    for file in found:
        try:
            _read(file)
        except UserError as e:
            if len(found) == 1:
                raise
            print(f"left out: {e}", file=sys.stderr)
        else:
            readable[printable(file.name)] = functools.partial(_read, file)
    if not readable:
        raise UserError(f"--photos: none of the {len(found)} photos in {where} can be read; give others")
    return readable


def _read(file: Path) -> np.ndarray:
    return decode_photo(Blob(file, file.name).read(), file.name)


def _written(new: Path, source: _Source, options: ExportOptions, **facts: object) -> None:
    """Write the card, with the origin of the export added to the training facts."""
    origin = {"to": options.to, "from_digest": source.digest, "semfacediff": __version__, **facts}
    write_card(new, replace(source.card, training={**source.card.training, "exported": origin}))


def _half(source: _Source, photos: dict, new: Path, options: ExportOptions) -> list[str]:
    write_weights(new, half_precision(source.model.state_dict()))
    _written(new, source, options)
    changed = _changed(source, ModelParser(*load_parser(new), torch.device("cpu")), photos)
    return [f"{WEIGHTS}: {_megabytes(new / WEIGHTS)}, float16 (computes in float32)", changed]


def _hf(source: _Source, photos: dict, new: Path, options: ExportOptions) -> list[str]:
    if not isinstance(source.model, SegFormer):
        raise UserError(
            f"--to hf: transformers has no architecture {source.card.name}, it reads SegFormer B0 to B5; use --to onnx "
            f"or --to torch, whose folders have the same side files"
        )
    write_hub_folder(source.model, source.card, new)
    write_model_card(source.card, source.folder and source.folder / _COMPANIONS[0], new)
    library = cast(nn.Module, SegformerForSemanticSegmentation.from_pretrained(new)).eval()
    line = _parity(source, _Enlarged(library), photos, any_size=True)
    model, card, _ = open_trained(config.ParserConfig.trained(str(new)))
    return [
        f"{WEIGHTS}: {_megabytes(new / WEIGHTS)}, for transformers",
        line,
        _changed(source, ModelParser(model, card, torch.device("cpu")), photos),
        f'use it: transformers.pipeline("image-segmentation", "{options.out}")',
    ]


class _Enlarged(nn.Module):
    """A segmentation network of transformers whose logits have the photo's size."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(pixel_values=x).logits
        return nn.functional.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def _onnx(source: _Source, photos: dict, new: Path, options: ExportOptions) -> list[str]:
    program, any_size = exported(source.model, source.card.input_size)
    facts = {"parser": source.card.name, "label_space": source.card.label_space, "digest": source.digest}
    facts |= {k: json.dumps(getattr(source.card, k)) for k in ("mean", "std", "input_size")}
    opset = write_onnx(program, new / ONNX, options.opset, facts)
    write_side_files(source.card, new)
    _written(new, source, options, opset=opset)
    model, _ = load_onnx(new)
    lines = [
        f"{ONNX}: {_megabytes(new / ONNX)}, operator set {opset}, {_sizes(any_size, source)}",
        _parity(source, model, photos, any_size),
        _changed(source, ModelParser(model, source.card, torch.device("cpu")), photos),
    ]
    if options.int8:
        (new / INT8).mkdir()
        quantise(new / ONNX, new / INT8 / ONNX)
        write_side_files(source.card, new / INT8)
        _written(new / INT8, source, options, opset=opset, quantised="dynamic, 8 bits")
        small = ModelParser(*load_onnx(new / INT8), torch.device("cpu"))
        lines += [f"{INT8}/{ONNX}: {_megabytes(new / INT8 / ONNX)}, 8-bit weights", _changed(source, small, photos)]
    folders = [options.out, *([options.out / INT8] if options.int8 else [])]
    score = "score it: python evaluate.py task=parsing parser.backend=onnx parser.checkpoint="
    return lines + [f"{score}{folder}" for folder in folders]


def _torch(source: _Source, photos: dict, new: Path, options: ExportOptions) -> list[str]:
    program, any_size = exported(source.model, source.card.input_size)
    torch.export.save(program, new / PROGRAM)
    write_side_files(source.card, new)
    _written(new, source, options)
    return [
        f"{PROGRAM}: {_megabytes(new / PROGRAM)}, for torch.export.load, {_sizes(any_size, source)}",
        _parity(source, Program(new / PROGRAM), photos, any_size),
    ]


def _sizes(any_size: bool, source: _Source) -> str:
    side = source.card.input_size
    return f"batches of any size, {'any height and width' if any_size else f'photos of {side} x {side} px'}"


def _parity(source: _Source, model: nn.Module, photos: dict, any_size: bool) -> str:
    """Largest difference of logits from torch's, for one photo, three, and another size if supported.

    Raises:
        UserError: it exceeds :data:`TOLERANCE`.
    """
    side = source.card.input_size
    some = [photo() for photo in list(photos.values())[:3]]
    some += some[:1] * (3 - len(some))
    batch = torch.stack([to_tensor(to_square(photo, side)[0]) for photo in some])
    batches = [batch[:1], batch]
    if any_size:
        batches.append(torch.nn.functional.interpolate(batch[:1], (side + 32, side + side // 4)))
    worst = max(_difference(source, model, x) for x in batches)
    if not worst <= TOLERANCE:
        raise UserError(
            f"export: logits differ from torch's by {worst:.1e}, at most {TOLERANCE:.0e} is allowed; nothing was "
            "written, try another --opset or another --to"
        )
    shapes = ", ".join(" x ".join(map(str, (len(x), *x.shape[-2:]))) for x in batches)
    return f"logits as torch's: the largest difference is {worst:.1e} (photos: {shapes} px)"


@torch.inference_mode()
def _difference(source: _Source, model: nn.Module, photos: Tensor) -> float:
    """Largest absolute difference of a logit; ``photos`` float32 ``[N,3,H,W]`` in [0,1]."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (source.card.mean, source.card.std))
    x = (photos - mean) / std
    return float((model(x) - source.model(x)).abs().max())


def _changed(source: _Source, made: ModelParser, photos: dict) -> str:
    """Share of pixels whose label differs from the original parser's."""
    parser, shares = source.parser, {}
    for name, photo in tqdm(photos.items(), "compare", unit="photo", leave=False, mininterval=0.5, disable=None):
        array = photo()
        shares[name] = float(np.mean(parse_any(parser, array).labels != parse_any(made, array).labels))
    worst = max(shares, key=lambda name: shares[name])
    mean = float(np.mean(list(shares.values())))
    return (
        f"labels: {_percent(mean)} of pixels change ({len(shares)} photos; most in {worst}: {_percent(shares[worst])})"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.4f} %"


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.2f} MB"

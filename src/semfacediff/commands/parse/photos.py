"""``semfacediff parse``: label maps, figures and overlays of photos."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from semfacediff import config
from semfacediff.commands.photo_folder import PARSE_REPORT, each_photo, photos_of, report
from semfacediff.data.reading import Blob, decode_photo
from semfacediff.engine.devices import choose_device
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, conversion, palette, space
from semfacediff.parsing import ModelParser
from semfacediff.parsing.any_photo import ParsedPhoto
from semfacediff.parsing.opening import open_trained, or_shipped
from semfacediff.records.writing import write_bytes, write_errors, write_text
from semfacediff.regions.portraits import parse_faces
from semfacediff.tables.figures import overlay
from semfacediff.threads import use_threads


@dataclass(frozen=True)
class _Task:
    """What to do with every photo."""

    parser: ModelParser
    digest: str
    backend: str
    space: LabelSpace
    to_space: np.ndarray
    out: Path
    overlay: bool


def parse_photos(
    source: Path,
    out: Path,
    checkpoint: str | None,
    architecture: str | None = None,
    label_space: str | None = None,
    with_overlay: bool = False,
    device: str = "auto",
    backend: Literal["torch", "onnx"] = "torch",
) -> int:
    """Parse a photo, or every photo of a folder; returns 0, or 1 if photos of the folder could not be parsed.

    Writes ``<out>/<stem>.png`` (mode P, pixel = label), ``<out>/<stem>.json`` and, if asked for,
    ``<out>/overlays/<stem>.png``; of a folder also ``parse_report.json``. Without a checkpoint the parser is the one
    that ships with the package.

    Raises:
        UserError: no photo, no usable parser, ``out`` cannot be written, or the single photo cannot be read.
    """
    photos = photos_of(source)
    if out.resolve() == photos[0].parent.resolve():
        raise UserError(
            f"--out: {out} is the folder of the photos, label maps could overwrite them; give another folder"
        )
    named = config.ParserConfig.trained(checkpoint, architecture, backend)
    task = _task(out, or_shipped(named), label_space, with_overlay, device)
    kept: list[Path] = []

    def one(file: Path) -> None:
        if not _parse_file(file, task):
            kept.append(file)

    failed = each_photo(source, photos, "label map", one)
    if source.is_dir():
        report(out / PARSE_REPORT, failed, len(photos), "parsed")
    before = f", {len(kept)} of them by an earlier run" if kept else ""
    print(f"parsed {len(photos) - len(failed)} of {len(photos)} photos into {out}{before}")
    return 1 if failed else 0


def _task(
    out: Path,
    settings: config.ParserConfig,
    label_space: str | None,
    with_overlay: bool,
    device: str,
) -> _Task:
    if settings.checkpoint is None:
        raise UserError(
            "no parser ships with this version; give --checkpoint RUN (a run of train_parser.py, a checkpoint folder "
            "or a weights file)"
        )
    use_threads()
    on = choose_device(config.checked(config.DeviceConfig, {"device": device}))
    model, card, digest = open_trained(settings)
    wanted = space(label_space or card.label_space)
    to_space = conversion(space(card.label_space), wanted)
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    return _Task(ModelParser(model, card, on), digest, settings.backend, wanted, to_space, out, with_overlay)


def _parse_file(file: Path, task: _Task) -> bool:
    """Parse one photo; ``False`` if its label map by this parser is there."""
    data = Blob(file, file.name).read()
    made_from = {"photo_sha256": hashlib.sha256(data).hexdigest(), **_made_by(task)}
    if _is_there(file, made_from, task):
        return False
    photo = decode_photo(data, file.name)
    _write(file, photo, parse_faces(task.parser, photo, file.name), made_from, task)
    return True


def _is_there(file: Path, made_from: dict, task: _Task) -> bool:
    pictures = [task.out / f"{file.stem}.png"] + [task.out / "overlays" / f"{file.stem}.png"] * task.overlay
    try:
        facts = json.loads((task.out / f"{file.stem}.json").read_text("utf-8"))
        return all(p.is_file() for p in pictures) and made_from == {key: facts.get(key) for key in made_from}
    except (OSError, ValueError, AttributeError):
        return False


def _made_by(task: _Task) -> dict:
    card = task.parser.card
    named = {"name": card.name, "digest": task.digest, "input_size": card.input_size, "backend": task.backend}
    return {"label_space": task.space.name, "parser": named}


def _write(file: Path, photo: np.ndarray, parsed: ParsedPhoto, made_from: dict, task: _Task) -> None:
    labels = task.to_space[parsed.labels].astype(np.uint8)
    write_bytes(task.out / f"{file.stem}.png", palette_png(labels, task.space))
    if task.overlay:
        picture = Image.fromarray(overlay(photo, labels, task.space))
        write_bytes(task.out / "overlays" / f"{file.stem}.png", _png(picture))
    size = {"height": photo.shape[0], "width": photo.shape[1]}
    # Written last, so that a photo counts as parsed only when all its files exist.
    facts = {"photo": file.name, **size, **made_from, **_facts(parsed, task)}
    write_text(task.out / f"{file.stem}.json", json.dumps(facts, indent=1) + "\n")


def _facts(parsed: ParsedPhoto, task: _Task) -> dict:
    """Coverage (share of the photo, 0..1) and confidence of every class."""
    total = int(parsed.pixels.sum())
    classes = {
        task.space.classes[task.to_space[k]]: {
            "pixels": int(n),
            "coverage": int(n) / total,
            "confidence": float(parsed.confidence[k]) if n else None,
        }
        for k, n in enumerate(parsed.pixels)
    }
    absent = {"pixels": 0, "coverage": 0.0, "confidence": None}
    return {
        "confidence": parsed.overall,
        "classes": {c: classes.get(c, absent) for c in task.space.classes},
    }


def palette_png(labels: np.ndarray, label_space: LabelSpace) -> bytes:
    """PNG (mode P, pixel = label, the palette of :mod:`semfacediff.labels`) of a label map uint8 ``[H, W]``."""
    image = Image.fromarray(labels)
    image.putpalette(palette(label_space).tobytes())
    return _png(image)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()

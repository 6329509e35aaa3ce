"""A trained parser is a folder: ``model.safetensors`` and ``parser.json``.

Weights in half precision are loaded like others: the network computes in float32. An exported parser has
``model.onnx`` or ``model.pt2`` instead of the weights, see :mod:`semfacediff.parsing.exporting`.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.folders import replacing, surviving
from semfacediff.labels import space
from semfacediff.parsing.registry import (
    KINDS,
    build_parser,
    flat_state_dict,
    from_published,
    inferred_options,
    kind,
    load_exactly,
)
from semfacediff.parsing.segformer_folder import is_released, released
from semfacediff.weight_files import file_digest, file_state, read_safetensors, read_weights

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "parser.json"
ONNX, PROGRAM = "model.onnx", "model.pt2"


@dataclass(frozen=True)
class ParserCard:
    """What must be known to use a parser's weights rightly; ``parser.json``.

    Attributes:
        name: architecture.
        label_space: what the logits' channels stand for.
        input_size: side in px of the square that photos are resized to.
        mean, std: RGB normalisation in [0,1].
        options: keyword arguments of the architecture.
        training: how it came to be (run, kind of data, epochs, score); not part of :func:`checkpoint_digest`.
    """

    name: str
    label_space: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)

    @property
    def uses_landmarks(self) -> bool:
        """Whether the network is given the landmarks of a photo that has some."""
        return self.name in KINDS and self.label_space in kind(self.name).landmarks

    @classmethod
    def of_kind(cls, name: str, label_space: str, input_size: int, training: dict | None = None) -> "ParserCard":
        k = kind(name)
        return cls(name, label_space, input_size, tuple(k.mean), tuple(k.std), {}, training or {})


def _write(file: Path, data: bytes) -> None:
    # The libraries' own writers raise errors of their own kinds on a full disk; plain writes raise OSError.
    with open(file, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """``model.safetensors`` in an existing folder."""
    _write(folder / WEIGHTS, save({k: v.detach().cpu().contiguous() for k, v in state.items()}))


def write_card(folder: Path, card: ParserCard) -> None:
    """``parser.json`` in an existing folder."""
    _write(folder / CARD, (json.dumps({"format": FORMAT, **asdict(card)}, indent=1) + "\n").encode())


def save_parser(model: nn.Module, card: ParserCard, folder: Path, extra: Mapping[str, object] | None = None) -> None:
    """Write a checkpoint folder atomically; ``extra`` (training state) goes to ``state.pt`` beside the weights."""
    with replacing(folder) as new:
        write_weights(new, model.state_dict())
        write_card(new, card)
        if extra is not None:
            buffer = io.BytesIO()
            torch.save(dict(extra), buffer)
            _write(new / "state.pt", buffer.getvalue())


def resolve(path: str | Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, or the best (else the last) one of a training run.

    A SegFormer in the model hub's layout (``config.json`` beside ``model.safetensors``) is a checkpoint folder too.

    Raises:
        UserError: nothing there is a checkpoint.
    """
    path = Path(path).expanduser()
    for candidate in (path, path / "checkpoints" / "best", path / "checkpoints" / "last"):
        found = surviving(candidate)
        if found and (found / CARD).is_file():
            return found
    if is_released(path):
        return path
    if not path.exists():
        raise UserError(f"parser.checkpoint: nothing is at {path}; train one with train_parser.py, or correct the path")
    raise UserError(
        f"parser.checkpoint: {path} holds no {CARD}; expected a checkpoint folder or the folder of a training run"
    )


def read_card(folder: Path) -> ParserCard:
    """The card of a checkpoint folder; a :class:`UserError` if it is damaged or of another format."""
    file = folder / CARD
    if not file.is_file() and is_released(folder):
        found = released(folder)
        return _usable(ParserCard(found.name, found.label_space, found.input_size, found.mean, found.std), folder)
    try:
        plain = json.loads(file.read_text())
        found = plain.pop("format")
        card = ParserCard(**plain) if found == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise UserError(f"{file}: not a parser's card ({e}); retrain or copy the folder again") from e
    if card is None:
        raise UserError(f"{file}: format {found!r} is not {FORMAT}; use the version of semfacediff that wrote it")
    return _usable(card, file)


def _usable(card: ParserCard, file: Path) -> ParserCard:
    wrong = _wrong_values(card)
    if wrong:
        raise UserError(f"{file}: not a parser's card (unusable {', '.join(wrong)}); retrain or copy the folder again")
    kind(card.name)  # both refuse an unknown name
    space(card.label_space)
    return card


def _wrong_values(card: ParserCard) -> list[str]:
    """Fields of a card whose values are of no use, e.g. after an edit by hand."""
    usable = {
        "name": isinstance(card.name, str),
        "label_space": isinstance(card.label_space, str),
        "input_size": type(card.input_size) is int and card.input_size >= 1,
        "mean": _three_numbers(card.mean),
        "std": _three_numbers(card.std) and all(s > 0 for s in card.std),
        "options": isinstance(card.options, dict),
    }
    return [f"{name}: {getattr(card, name)!r}" for name, good in usable.items() if not good]


def _three_numbers(values: object) -> bool:
    return isinstance(values, list | tuple) and len(values) == 3 and all(type(v) in (int, float) for v in values)


def checkpoint_digest(folder: Path, computed_from: str = WEIGHTS) -> str:
    """SHA-256 over the weights (or another file, :data:`ONNX`) and all on the card that changes what they compute."""
    card = {k: v for k, v in asdict(read_card(folder)).items() if k != "training"}
    text = file_digest(folder / computed_from) + json.dumps(card, sort_keys=True)
    if not (folder / CARD).is_file():
        text += json.dumps(released(folder).order)
    return hashlib.sha256(text.encode()).hexdigest()


def checkpoint_state(path: str) -> list[tuple | None]:
    """What changes when the files of ``parser.checkpoint`` do, without reading them."""
    place = Path(path).expanduser()
    if place.is_dir():
        place = resolve(place)
    names = (WEIGHTS, CARD, ONNX, PROGRAM, "config.json")
    return [file_state(place), *(file_state(place / name) for name in names)]


def load_parser(folder: Path) -> tuple[nn.Module, ParserCard]:
    """Model in eval mode and its card.

    Raises:
        UserError: missing or truncated weights, or weights that do not fit the card's architecture.
    """
    card = read_card(folder)
    if not (folder / WEIGHTS).exists() and (folder / ONNX).is_file():
        raise UserError(f"parser.checkpoint: {folder} holds an ONNX file and no weights; set parser.backend=onnx")
    if not (folder / WEIGHTS).exists() and (folder / PROGRAM).is_file():
        raise UserError(f"parser.checkpoint: {folder} holds a program for torch.export.load; name the parser it is of")
    state = read_safetensors(folder / WEIGHTS) if (folder / CARD).is_file() else released(folder).state()
    model = build_parser(card.name, classes=space(card.label_space).n, **card.options)
    return load_exactly(model, state, str(folder / WEIGHTS)).eval(), card


def load_published(name: str, path: Path) -> tuple[nn.Module, ParserCard]:
    """Model and card from a released weights file (``.pt``, ``.pth``, ``.bin``, ``.safetensors``)."""
    contents = read_weights(path)
    model, card = from_published(name, contents), ParserCard.of_kind(name, kind(name).label_space, 512)
    return model, replace(card, options=inferred_options(name, flat_state_dict(contents)))

"""A trained parser is a folder: ``model.safetensors`` and ``parser.json``.

Weights in half precision are loaded like others: the network computes in float32. An exported parser has
``model.onnx`` or ``model.pt2`` instead of the weights, see :mod:`semfacediff.parsing.exporting`.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from semfacediff.downloads import fetch_line
from semfacediff.errors import UserError
from semfacediff.folders import intact_folder, replacing
from semfacediff.hub import PLACE, cached_place, snapshot
from semfacediff.labels import space
from semfacediff.parsing.class_order import Stated
from semfacediff.parsing.named_file import NamedFile, read_name, size_of, space_of
from semfacediff.parsing.public import PUBLIC_PARSERS, SEGFACE_FILE, there
from semfacediff.parsing.registry import (
    build_parser,
    flat_state_dict,
    from_published,
    inferred_options,
    kind,
    landmark_spaces,
    load_exactly,
)
from semfacediff.parsing.segformer_folder import CONFIG, PREPROCESSOR, WEIGHT_FILES, is_released, released
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
        training: how it came to be (run, kind of data, epochs, score), or of a published one ``read_from``: what told
            its label space and input size; not part of :func:`checkpoint_digest`.
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
        return self.label_space in landmark_spaces(self.name)

    @classmethod
    def of_kind(cls, name: str, label_space: str, input_size: int, training: dict | None = None) -> "ParserCard":
        k = kind(name)
        return cls(name, label_space, input_size, tuple(k.mean), tuple(k.std), {}, training or {})


def write_synced(file: Path, data: bytes) -> None:
    """The libraries' own writers raise errors of their own kinds on a full disk; this raises OSError."""
    with open(file, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """``model.safetensors`` in an existing folder."""
    write_synced(folder / WEIGHTS, save({k: v.detach().cpu().contiguous() for k, v in state.items()}))


def write_card(folder: Path, card: ParserCard) -> None:
    """``parser.json`` in an existing folder."""
    write_synced(folder / CARD, (json.dumps({"format": FORMAT, **asdict(card)}, indent=1) + "\n").encode())


def save_parser(model: nn.Module, card: ParserCard, folder: Path) -> None:
    """Write a checkpoint folder atomically."""
    with replacing(folder) as new:
        write_weights(new, model.state_dict())
        write_card(new, card)


def resolve(path: str | Path) -> Path:
    """The checkpoint that ``path`` means: a folder, or a released weights file.

    It names a checkpoint folder, a training run (its best, else its last), a SegFormer in the model hub's layout
    (``config.json`` beside the weights), a weights file, a folder with SegFace's released one, or any of the last three
    by its id, of which the hub's cache holds a copy.

    Raises:
        UserError: nothing there is a checkpoint.
    """
    named, path = str(path), Path(path).expanduser()
    for candidate in (path, path / "checkpoints" / "best", path / "checkpoints" / "last"):
        found = intact_folder(candidate)
        if found and (found / CARD).is_file():
            return found
    place = path if path.exists() else cached_place(named)
    if place is None:
        raise UserError(_not_there(named))
    return _released_in(snapshot(place) or place)


def _released_in(place: Path) -> Path:
    try:
        if is_released(place) or there(place):
            return place
        if there(place / SEGFACE_FILE):
            return place / SEGFACE_FILE
    except UserError as e:
        raise UserError(f"parser.checkpoint: {e}") from e
    raise UserError(
        f"parser.checkpoint: {place} holds no {CARD}; expected a checkpoint folder, the folder of a training run, or a "
        f"published model (config.json beside its weights, or {SEGFACE_FILE})"
    )


def _not_there(named: str) -> str:
    if not PLACE.fullmatch(named):
        return f"parser.checkpoint: nothing is at {named}; train one with train_parser.py, or correct the path"
    known = [p.id for p in PUBLIC_PARSERS.values()]
    close = difflib.get_close_matches(named, known, n=1) or known[:1]
    return (
        f"parser.checkpoint: nothing is at {named}, neither here nor in the model hub's cache; correct the path, train "
        f"a parser with train_parser.py, or fetch one that the hub has with '{fetch_line(named)}' (known: {close[0]})"
    )


def read_card(folder: Path, label_space: Stated | None = None, input_size: int | None = None) -> ParserCard:
    """The card of a checkpoint folder; a :class:`UserError` if it is damaged or of another format.

    Args:
        label_space, input_size: what the configuration says; it must agree with a card, and stands above what a
            published folder says.
    """
    file = folder / CARD
    if not file.is_file() and is_released(folder):
        found = released(folder, label_space, input_size)
        read_from = {"label_space": found.classes.said_by, "input_size": found.sized_by}
        plain = (found.name, found.classes.space.name, found.input_size, found.mean, found.std)
        return _usable(ParserCard(*plain, training={"read_from": read_from}), folder)
    try:
        plain = json.loads(file.read_text())
        found = plain.pop("format")
        card = ParserCard(**plain) if found == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise UserError(f"{file}: not a parser's card ({e}); retrain or copy the folder again") from e
    if card is None:
        raise UserError(f"{file}: format {found!r} is not {FORMAT}; use the version of semfacediff that wrote it")
    card = _usable(card, file)
    for key, said, own in (("label_space", label_space, card.label_space), ("input_size", input_size, card.input_size)):
        if said is not None and said != own:
            raise UserError(f"parser.{key}={said} contradicts {folder}, which has {own}; drop it")
    return card


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


def checkpoint_digest(
    folder: Path,
    computed_from: str = WEIGHTS,
    label_space: Stated | None = None,
    input_size: int | None = None,
) -> str:
    """SHA-256 over the weights (or another file, :data:`ONNX`) and all on the card that changes what they compute.

    Args:
        label_space, input_size: as for :func:`read_card`.
    """
    card = read_card(folder, label_space, input_size)
    if (folder / CARD).is_file():
        return file_digest_with(folder / computed_from, card)
    found = released(folder, label_space, input_size)
    return file_digest_with(found.weights, card, json.dumps(found.classes.rows))


def file_digest_with(file: Path, card: ParserCard, more: str = "") -> str:
    """SHA-256 over a file and all on ``card`` that changes what it computes."""
    plain = {k: v for k, v in asdict(card).items() if k != "training"}
    return hashlib.sha256((file_digest(file) + json.dumps(plain, sort_keys=True) + more).encode()).hexdigest()


def checkpoint_state(path: str) -> list[tuple | None]:
    """What changes when the files of ``parser.checkpoint`` do, without reading them."""
    try:
        place = resolve(path)
    except UserError:  # nothing is there; who opens it says so
        place = Path(path).expanduser()
    names = (WEIGHTS, CARD, ONNX, PROGRAM, CONFIG, PREPROCESSOR, *WEIGHT_FILES)
    return [file_state(place), *(file_state(place / name) for name in names)]


def load_parser(
    folder: Path, label_space: Stated | None = None, input_size: int | None = None
) -> tuple[nn.Module, ParserCard]:
    """Model in eval mode and its card.

    Args:
        label_space, input_size: as for :func:`read_card`.

    Raises:
        UserError: missing or truncated weights, or weights that do not fit the card's architecture.
    """
    card = read_card(folder, label_space, input_size)
    if (folder / CARD).is_file():
        if not (folder / WEIGHTS).exists() and (folder / ONNX).is_file():
            raise UserError(f"parser.checkpoint: {folder} holds an ONNX file and no weights; set parser.backend=onnx")
        if not (folder / WEIGHTS).exists() and (folder / PROGRAM).is_file():
            raise UserError(
                f"parser.checkpoint: {folder} holds a program for torch.export.load; name the parser it is of"
            )
        file, state = folder / WEIGHTS, read_safetensors(folder / WEIGHTS)
    else:
        found = released(folder, label_space, input_size)
        file, state = found.weights, found.state()
    model = build_parser(card.name, classes=space(card.label_space).n, **card.options)
    return load_exactly(model, state, str(file)).eval(), card


def load_published(
    name: str | None, file: Path, label_space: Stated | None = None, input_size: int | None = None
) -> tuple[nn.Module, ParserCard]:
    """Model and card from a released weights file (``.pt``, ``.pth``, ``.bin``, ``.safetensors``).

    Args:
        name: architecture; ``None``: the file's name says it, as those of SegFace's folders do.
        label_space, input_size: in the place of what the file's name and the architecture say.

    Raises:
        UserError: what is not given is not said either, or the weights do not fit.
    """
    said = read_name(file) if name is None or name.startswith("segface_") else NamedFile()
    name = name or said.name
    if name is None:
        raise UserError(f"parser.checkpoint: {file} is a bare weights file; name its architecture with parser=NAME")
    if label_space is not None and not isinstance(label_space, str):
        raise UserError(f"parser.label_space: {file} takes the name of a label space, got a list of classes")
    contents = read_weights(file)
    state = flat_state_dict(contents)
    told = f"the name {said.text}"
    named, of_space = _first(
        (label_space, "parser.label_space"),
        (said.label_space, told),
        default=lambda: space_of(name, kind(name).classes_of(state), file),
    )
    size, of_size = _first(
        (input_size, "parser.input_size"), (said.input_size, told), default=lambda: size_of(name, file)
    )
    model = from_published(name, contents, label_space=named)
    read_from = {"label_space": of_space, "input_size": of_size}
    card = ParserCard.of_kind(name, named, size, {"read_from": read_from})
    return model, replace(card, options=inferred_options(name, state))


def _first(*said: tuple[object, str], default: Callable[[], object]) -> tuple[Any, str]:
    """The first value that is said, and by what."""
    found = next(((value, by) for value, by in said if value is not None), None)
    return found or (default(), "the architecture's default")

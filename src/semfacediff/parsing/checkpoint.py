"""A trained parser is a folder: ``model.safetensors`` and ``parser.json``."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.labels import space
from semfacediff.parsing.registry import build_parser, from_published, kind, load_exactly

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "parser.json"


@dataclass(frozen=True)
class ParserCard:
    """What must be known to use a parser's weights rightly; ``parser.json``.

    Attributes:
        name: architecture.
        label_space: what the logits' channels stand for.
        input_size: side in px of the square that photos are resized to.
        mean, std: RGB normalisation in [0,1].
        options: keyword arguments of the architecture.
        training: how it came to be (run, data digest, epochs, scores); informative.
    """

    name: str
    label_space: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)

    @classmethod
    def of_kind(cls, name: str, label_space: str, input_size: int, training: dict | None = None) -> "ParserCard":
        k = kind(name)
        return cls(name, label_space, input_size, tuple(k.mean), tuple(k.std), {}, training or {})


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def replace_folder(folder: Path, new: Path) -> None:
    """Put ``new`` in the place of ``folder`` such that a kill in between leaves one of them whole."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def surviving(folder: Path) -> Path | None:
    """``folder``, or what :func:`replace_folder` left of it when it was killed; ``None`` if there is neither."""
    return next((f for f in (folder, folder.with_name(folder.name + ".old")) if f.is_dir()), None)


def save_parser(model: nn.Module, card: ParserCard, folder: Path, extra: Mapping[str, object] | None = None) -> None:
    """Write a checkpoint folder atomically; ``extra`` (training state) goes to ``state.pt`` beside the weights."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, new / WEIGHTS)
    (new / CARD).write_text(json.dumps({"format": FORMAT, **asdict(card)}, indent=1) + "\n")
    if extra is not None:
        torch.save(dict(extra), new / "state.pt")
    replace_folder(folder, new)


def resolve(path: str | Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, or the best (else the last) one of a training run.

    Raises:
        UserError: nothing there is a checkpoint.
    """
    path = Path(path).expanduser()
    for candidate in (path, path / "checkpoints" / "best", path / "checkpoints" / "last"):
        found = surviving(candidate)
        if found and (found / CARD).is_file():
            return found
    if not path.exists():
        raise UserError(f"parser.checkpoint: nothing is at {path}; train one with train_parser.py, or correct the path")
    raise UserError(
        f"parser.checkpoint: {path} holds no {CARD}; expected a checkpoint folder or the folder of a training run"
    )


def read_card(folder: Path) -> ParserCard:
    """The card of a checkpoint folder; a :class:`UserError` if it is damaged or of another format."""
    try:
        plain = json.loads((folder / CARD).read_text())
        if plain.pop("format") != FORMAT:
            raise UserError(f"{folder / CARD}: format {plain.get('format')} is not {FORMAT}; use a matching version")
        card = ParserCard(**plain)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise UserError(f"{folder / CARD}: not a parser's card ({e}); retrain or copy the folder again") from e
    space(card.label_space)
    return card


def load_parser(folder: Path) -> tuple[nn.Module, ParserCard]:
    """Model in eval mode and its card.

    Raises:
        UserError: missing or truncated weights, or weights that do not fit the card's architecture.
    """
    card = read_card(folder)
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as e:
        raise UserError(f"{folder / WEIGHTS}: cannot be read ({e}); copy the checkpoint again") from e
    model = build_parser(card.name, classes=space(card.label_space).n, **card.options)
    return load_exactly(model, state, str(folder / WEIGHTS)).eval(), card


def read_pickle_safely(path: Path) -> Mapping[str, Tensor]:
    """Contents of a ``.pt``/``.pth``/``.bin`` file, tensors only.

    Raises:
        UserError: the file carries code, or is not a torch file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise UserError(f"{path}: refused, the pickle carries code or objects, not only tensors; convert it") from e
    except (OSError, RuntimeError, EOFError, ValueError) as e:
        raise UserError(f"{path}: not a readable weights file ({str(e).splitlines()[0]})") from e


def load_published(name: str, path: Path) -> tuple[nn.Module, ParserCard]:
    """Model and card from a released weights file (``.pt``, ``.pth``, ``.bin``, ``.safetensors``)."""
    state = load_file(path) if path.suffix == ".safetensors" else read_pickle_safely(path)
    return from_published(name, state), ParserCard.of_kind(name, "celebamask", 512)

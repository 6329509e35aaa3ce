"""SegFormer folders in the model hub's layout: ``config.json`` beside the weights. Nothing here needs transformers."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from semfacediff.downloads import fetch_line
from semfacediff.errors import UserError
from semfacediff.hub import ID, cached_folder
from semfacediff.labels import CELEBAMASK, SPACES
from semfacediff.parsing.registry import IMAGENET_MEAN, IMAGENET_STD, load_exactly
from semfacediff.weight_files import file_digest, read_weights

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
HEAD = "decode_head.classifier."


@dataclass(frozen=True)
class Size:
    """What tells B0 to B5 apart: blocks and channels of the four stages, width of the decoder."""

    depths: tuple[int, int, int, int]
    hidden_sizes: tuple[int, int, int, int]
    decoder_hidden_size: int

    def config(self) -> dict[str, object]:
        """The whole geometry in the words of the library's configuration."""
        return {
            **_COMMON,
            "depths": list(self.depths),
            "hidden_sizes": list(self.hidden_sizes),
            "decoder_hidden_size": self.decoder_hidden_size,
        }


_COMMON = {
    "num_channels": 3,
    "num_encoder_blocks": 4,
    "sr_ratios": [8, 4, 2, 1],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "num_attention_heads": [1, 2, 5, 8],
    "mlp_ratios": [4, 4, 4, 4],
    "hidden_act": "gelu",
    "reshape_last_stage": True,
}
_WIDE = (64, 128, 320, 512)

SIZES: Mapping[str, Size] = {
    "b0": Size((2, 2, 2, 2), (32, 64, 160, 256), 256),
    "b1": Size((2, 2, 2, 2), _WIDE, 256),
    "b2": Size((3, 4, 6, 3), _WIDE, 768),
    "b3": Size((3, 4, 18, 3), _WIDE, 768),
    "b4": Size((3, 8, 27, 3), _WIDE, 768),
    "b5": Size((3, 6, 40, 3), _WIDE, 768),
}


@dataclass(frozen=True)
class Released:
    """A trained parser in the hub's layout, and how it is to be used here.

    Attributes:
        name: ``segformer_b0`` to ``segformer_b5``.
        label_space: space that the logits of :meth:`state` stand for.
        order: row of the released head for each class of that space.
        input_size: side in px. mean, std: RGB normalisation in [0,1].
        weights: the file.
    """

    name: str
    label_space: str
    order: tuple[int, ...]
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Path

    def state(self) -> dict[str, Tensor]:
        """Flat state dict under published keys, the rows of its head in the order of ``label_space``."""
        state = dict(read_weights(self.weights))
        for key in (HEAD + "weight", HEAD + "bias"):
            if key in state and len(state[key]) == len(self.order):
                state[key] = state[key][torch.tensor(self.order)].contiguous()
        return state


def is_released(folder: Path) -> bool:
    """Whether a folder has the hub's layout, whatever kind of model is in it."""
    try:
        return "model_type" in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, TypeError):
        return False


def released(folder: Path) -> Released:
    """The trained parser in ``folder``; its class names are read, and give the label space.

    Where the configuration names no classes, nineteen are taken for ``celebamask``, as those of a bare weights file.

    Raises:
        UserError: no SegFormer of a known size, no weights, or classes that no label space has.
    """
    config = _json(folder / CONFIG)
    name = _name(config, folder / CONFIG)
    label_space, order = _classes(config, folder / CONFIG)
    weights = folder / WEIGHT_FILES[0]
    if not weights.is_file():
        raise UserError(f"parser.checkpoint: {folder} has a {CONFIG} and no {weights.name}; copy it there")
    return Released(name, label_space, order, *_preparation(folder / PREPROCESSOR), weights)


def start_from(model: nn.Module, name: str, where: str) -> Path:
    """Load published weights into a fresh ``model`` of architecture ``name``, except for its head; the file's path.

    The classes of the start are others than ours, so its ``decode_head.classifier`` never enters. A start without any
    decoder (an encoder trained for classification) leaves the fresh decoder as well.

    Args:
        where: a folder with ``config.json`` and weights, or ``owner/name`` (``owner/name@revision``) on the model hub.

    Raises:
        UserError: nothing is there, it is of another size, or its weights do not fit (their keys are listed).
    """
    folder, weights = _fetched(where)
    found = _name(_json(folder / CONFIG), folder / CONFIG)
    if found != name:
        raise UserError(f"parser.pretrained: {where} is a {found}; set parser={found}, or a start made for {name}")
    state = dict(read_weights(weights))
    own = model.state_dict()
    kept = HEAD if any(k.startswith("decode_head.") for k in state) else "decode_head."
    foreign = (kept, "classifier.")
    state = {k: v for k, v in state.items() if not k.startswith(foreign)}
    state |= {k: v for k, v in own.items() if k.startswith(kept)}
    load_exactly(model, state, f"parser.pretrained: {weights}")
    return weights


def start_digest(where: str) -> str:
    """SHA-256 of the weights file that ``parser.pretrained`` means; a :class:`UserError` if there is none."""
    return file_digest(_fetched(where)[1])


def _fetched(where: str) -> tuple[Path, Path]:
    """(folder, weights file) of a local folder, else of the hub's cache on this machine."""
    folder = Path(where).expanduser()
    if folder.is_dir():
        weights = next((folder / f for f in WEIGHT_FILES if (folder / f).is_file()), None)
        if weights is None or not (folder / CONFIG).is_file():
            lacking = CONFIG if weights else f"{WEIGHT_FILES[0]} (or {WEIGHT_FILES[1]})"
            raise UserError(f"parser.pretrained: {folder} holds no {lacking}; copy the whole folder of the model there")
        return folder, weights
    id_, _, revision = where.partition("@")
    if not ID.fullmatch(id_):
        raise UserError(
            f"parser.pretrained: no folder is at {where}; expected one with {CONFIG} and {WEIGHT_FILES[0]}, or a name "
            "OWNER/MODEL on the model hub"
        )
    folder = cached_folder(id_, revision or None)
    weights = next((folder / f for f in WEIGHT_FILES if (folder / f).is_file()), None) if folder else None
    if weights is None or not (folder / CONFIG).is_file():
        raise UserError(
            f"parser.pretrained: {where} is no folder here, and the hub's cache does not hold it; fetch it with "
            f"'{fetch_line(where)}', or put its {CONFIG} and {WEIGHT_FILES[0]} into a folder and set "
            "parser.pretrained=FOLDER"
        )
    return folder, weights


def _json(file: Path) -> dict:
    try:
        plain = json.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{file}: not readable ({e}); copy the file again") from e
    if not isinstance(plain, dict):
        raise UserError(f"{file}: expected settings by name, got a {type(plain).__name__}; copy the file again")
    return plain


def _name(config: Mapping, file: Path) -> str:
    """``segformer_b<n>`` of a configuration; what it leaves out has the library's value."""
    if config.get("model_type") != "segformer":
        raise UserError(
            f"{file}: expected model_type 'segformer', got {config.get('model_type')!r}; it is no SegFormer"
        )
    other = {k: config[k] for k, v in _COMMON.items() if config.get(k, v) != v}
    stages = tuple(config.get("depths", ())), tuple(config.get("hidden_sizes", ()))
    name = next((n for n, s in SIZES.items() if (s.depths, s.hidden_sizes) == stages), None)
    if name is None or other:
        odd = other or {"depths": list(stages[0]), "hidden_sizes": list(stages[1])}
        raise UserError(f"{file}: none of SegFormer's sizes b0 to b5 has {odd}; use one of the published sizes")
    return f"segformer_{name}"


def _classes(config: Mapping, file: Path) -> tuple[str, tuple[int, ...]]:
    """(label space, row of the released head for each of its classes), by the names in ``id2label``."""
    named = config.get("id2label") or {}
    try:
        names = [str(named[key]) for key in sorted(named, key=int)]
    except (TypeError, ValueError, KeyError) as e:
        raise UserError(f"{file}: id2label does not give a name to each class number ({e}); correct it") from e
    if not names or (len(names) == CELEBAMASK.n and all(re.fullmatch(r"LABEL_\d+", n) for n in names)):
        return CELEBAMASK.name, tuple(range(CELEBAMASK.n))  # another class count shows in the shapes of the weights
    for space in SPACES.values():
        if names == list(space.classes):
            return space.name, tuple(range(len(names)))
    for space in SPACES.values():
        if sorted(names) == sorted(space.classes):
            return space.name, tuple(names.index(c) for c in space.classes)
    foreign = [n for n in names if n not in CELEBAMASK.classes]
    raise UserError(
        f"{file}: the {len(names)} classes of id2label are those of no label space here (not known: "
        f"{', '.join(foreign[:4]) or 'none, but some are missing'}); as a start for training set parser.pretrained"
    )


def _preparation(file: Path) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """(input size in px, mean, std) of the photos that a released parser expects; 512 px and ImageNet's if unsaid."""
    plain = _json(file) if file.is_file() else {}
    size = plain.get("size", 512)
    sides = set(size.values()) if isinstance(size, dict) else {size}
    if len(sides) != 1 or not all(type(s) is int and s >= 1 for s in sides):
        raise UserError(f"{file}: expected a square input size, got {size!r}; write one into it")
    if not plain.get("do_normalize", True):
        return sides.pop(), (0.0,) * 3, (1.0,) * 3
    return sides.pop(), tuple(plain.get("image_mean", IMAGENET_MEAN)), tuple(plain.get("image_std", IMAGENET_STD))

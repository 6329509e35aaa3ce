"""A parser architecture by its name, and how released weights enter."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.labels import SPACES, space
from semfacediff.plugins import find, ours

CE7454_MEAN = (0.5192456841, 0.4181598723, 0.3640346229)
CE7454_STD = (0.2684383392, 0.2414970696, 0.2339624018)
"""Averages over the 5,000 training photos of per-photo mean and (unbiased) standard deviation, RGB in [0,1]."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Kind:
    """An architecture: where its class is, the tensor with one row a class, and how inputs are normalised.

    ``options`` are fixed by the name; ``inferred`` gives those that published weights tell by their keys.
    ``class_count`` counts classes where no tensor has a row for each. ``label_space``: of published weights with 19.
    ``landmarks``: label spaces whose models are given five landmarks of every photo beside it, where it has some.
    ``sizes``: input sizes in px of its released weights files. ``published``: of a key under which weights are found,
    the name that the architecture has for it. ``starts``: module that loads a pretrained encoder into a fresh one, with
    ``start_from(model, name, where)`` and ``start_digest(name, where)``.
    """

    module: str
    cls: str
    head: str | None
    mean: tuple[float, ...] = CE7454_MEAN
    std: tuple[float, ...] = CE7454_STD
    options: Mapping[str, object] | None = None
    inferred: Callable[[Mapping[str, Tensor]], dict[str, object]] | None = None
    class_count: Callable[[Mapping[str, Tensor]], int | None] | None = None
    label_space: str = "celebamask"
    landmarks: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (512,)
    published: Callable[[str], str] | None = None
    starts: str | None = None

    def classes_of(self, state: Mapping[str, Tensor]) -> int | None:
        """Class count of published weights; ``None`` if they are foreign."""
        if self.class_count is not None:
            return self.class_count(state)
        head = state.get(self.head) if self.head else None
        return len(head) if head is not None and head.ndim else None


@dataclass(frozen=True)
class Family:
    """Architectures that one module registers together: ``<module>_<variant>``.

    Attributes:
        kind: the architecture of a variant.
        variants: their names; empty where ``kind`` itself refuses unknown ones.
    """

    kind: Callable[[str], Kind]
    variants: tuple[str, ...] = ()


def kind(name: str) -> Kind:
    """The architecture called ``name``; a :class:`UserError` lists the known ones."""
    found = find("parser", name)
    if found is None:
        module, _, variant = name.partition("_")
        family = find("parser", module) if variant else None
        if isinstance(family, Family) and (not family.variants or variant in family.variants):
            return family.kind(variant)
    if isinstance(found, Kind):
        return found
    if isinstance(found, type):
        raise UserError(f"parser '{name}' is no architecture but parses by itself; it has nothing to train or load")
    raise UserError(f"unknown parser '{name}'; choose one of {', '.join(architectures())}, or one of a package")


def landmark_spaces(name: str) -> tuple[str, ...]:
    """:attr:`Kind.landmarks` of ``name``; none of what is no architecture here."""
    try:
        return kind(name).landmarks
    except UserError:
        return ()


def architectures() -> list[str]:
    """Names of our own architectures; of an open family as ``<module>_...``. Imports the module of each."""
    names = []
    for module in ours("parser"):
        found = find("parser", module)
        if isinstance(found, Family):
            names += [f"{module}_{variant}" for variant in found.variants or ("...",)]
        elif isinstance(found, Kind):
            names.append(module)
    return names


def build_parser(name: str, *, classes: int = 19, **options: object) -> nn.Module:
    """An untrained parser: normalised float32 ``[N,3,H,W]`` -> logits ``[N,classes,H,W]`` at input size.

    Every parser class names its encoder's sub-modules in ``encoder``.

    Raises:
        UserError: unknown name or option.
    """
    k = kind(name)
    try:
        return getattr(importlib.import_module(k.module), k.cls)(classes=classes, **(k.options or {}), **options)
    except TypeError as e:
        raise UserError(f"parser '{name}': {e}") from e


Model = TypeVar("Model", bound=nn.Module)
_WRAPPERS = ("state_dict_backbone", "state_dict", "model")
_CONSTRUCTED = ("num_batches_tracked", "relative_position_index", "relative_coords_table")


def flat_state_dict(state: Mapping) -> dict[str, Tensor]:
    """The flat tensor dictionary inside a released checkpoint: unwrapped, ``module.`` prefixes stripped.

    Raises:
        UserError: there is no dictionary of tensors in it.
    """
    for wrapper in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError("the checkpoint holds no flat dictionary of tensors (nor one under 'state_dict')")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_exactly(model: Model, state: Mapping[str, Tensor], what: str) -> Model:
    """Load ``state`` into ``model``; buffers that a module constructs itself may be absent.

    Raises:
        UserError: listing missing, unexpected and mis-shaped keys, or those whose weights hold NaN.
    """
    return load_renamed(model, state, {key: key for key in model.state_dict()}, what)


def load_renamed(model: Model, state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> Model:
    """:func:`load_exactly` where ``state`` has its own keys; ``names``: key of ``model`` -> key of ``state``."""
    own = {names[key]: value for key, value in model.state_dict().items()}
    missing = [k for k in own if k not in state and k.rsplit(".", 1)[-1] not in _CONSTRUCTED]
    extra = [k for k in state if k not in own]
    shapes = [
        f"{k} {list(state[k].shape)} instead of {list(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    faults = [
        f"{len(keys)} {word} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
        for word, keys in (("missing keys", missing), ("unexpected keys", extra), ("mis-shaped keys", shapes))
        if keys
    ]
    if not faults and (damaged := [k for k in own if k in state and torch.isnan(state[k]).any()]):
        named = f"{', '.join(damaged[:4])}{', ...' if len(damaged) > 4 else ''}"
        raise UserError(f"{what}: {len(damaged)} weights hold NaN ({named}); train again, or copy the file again")
    if faults:
        raise UserError(f"{what}: the weights do not fit this architecture: {'; '.join(faults)}")
    model.load_state_dict({ours: state[theirs] for ours, theirs in names.items() if theirs in state}, strict=False)
    return model


def inferred_options(name: str, state: Mapping[str, Tensor]) -> dict[str, object]:
    """Options of the architecture ``name`` that the flat ``state`` was made with, as far as its keys tell them."""
    infer = kind(name).inferred
    return infer(state) if infer else {}


def from_published(name: str, state_dict: Mapping, *, label_space: str | None = None, **options: object) -> nn.Module:
    """A parser in eval mode with weights under their *published* key names.

    Args:
        name: architecture, e.g. ``fastscnn_lite``.
        state_dict: flat, or under ``state_dict_backbone`` / ``state_dict``; ``module.`` prefixes are stripped. The
            class count, and what else its keys tell, is inferred from it.
        label_space: space that the logits' channels stand for; by default that of the architecture's released weights
            (``segface`` for SegFace, else ``celebamask``).

    Raises:
        UserError: unknown name or space, another number of classes, or keys that do not fit (listed).
    """
    rename = kind(name).published or str
    state = {rename(key): value for key, value in flat_state_dict(state_dict).items()}
    label_space = label_space or kind(name).label_space
    expected = space(label_space).n
    classes = kind(name).classes_of(state) or expected  # foreign weights: their keys get listed below
    if classes != expected:
        fitting = ", ".join(s.name for s in SPACES.values() if s.n == classes) or "none of the known ones"
        raise UserError(
            f"{name}: the weights have {classes} classes, label space '{label_space}' has {expected}; set "
            f"label_space (parser.label_space) to the one they were trained for (of that size: {fitting})"
        )
    options = {**inferred_options(name, state), **options}
    return load_exactly(build_parser(name, classes=classes, **options), state, f"parser '{name}'").eval()

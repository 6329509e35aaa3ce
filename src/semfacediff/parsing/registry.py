"""Every parser architecture by name, and how released weights enter."""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.labels import SPACES, space
from semfacediff.parsing.segformer_keys import published
from semfacediff.plugins import find

CE7454_MEAN = (0.5192456841, 0.4181598723, 0.3640346229)
CE7454_STD = (0.2684383392, 0.2414970696, 0.2339624018)
"""Averages over the 5,000 training photos of per-photo mean and (unbiased) standard deviation, RGB in [0,1]."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _upsampling(state: Mapping[str, Tensor]) -> dict[str, object]:
    """Of ``segformer_lite``: only the transposed variant has weights for its upsampling."""
    return {"upsampling": "transposed" if "upconv.weight" in state else "bilinear"}


@dataclass(frozen=True)
class Kind:
    """An architecture: where its class is, the tensor with one row a class, and how inputs are normalised.

    ``options`` are fixed by the name; ``inferred`` gives those that published weights tell by their keys.
    ``class_count`` counts classes where no tensor has a row for each. ``label_space``: of published weights with 19.
    ``landmarks``: label spaces whose models are given five landmarks of every photo beside it, where it has some.
    ``sizes``: input sizes in px of its released weights files. ``published``: of a key under which weights are found,
    the name that the architecture has for it.
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

    def classes_of(self, state: Mapping[str, Tensor]) -> int | None:
        """Class count of published weights; ``None`` if they are foreign."""
        if self.class_count is not None:
            return self.class_count(state)
        head = state.get(self.head) if self.head else None
        return len(head) if head is not None and head.ndim else None


def _segformer(size: str) -> Kind:
    return Kind(
        "semfacediff.parsing.segformer",
        "SegFormer",
        head="decode_head.classifier.bias",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        options={"size": size},
        published=published,
    )


SEGFACE_BACKBONES = (
    *("swin_base", "swinv2_base", "swinv2_small", "swinv2_tiny"),
    *("convnext_base", "convnext_small", "convnext_tiny", "resnet", "mobilenet", "efficientnet"),
)


def _token_count(state: Mapping[str, Tensor]) -> int | None:
    """Of SegFace, whose tokens are a tensor each. By which they are, not how many: a missing one is to be listed."""
    before, after = "face_decoder.", "_token.weight"
    tokens = {k[len(before) : -len(after)] for k in state if k.startswith(before) and k.endswith(after)}
    if not tokens:
        return None
    return 19 if tokens & {"neck", "cloth", "glass", "hat", "earring", "necklace"} else 11


def _segface(backbone: str) -> Kind:
    return Kind(
        "semfacediff.parsing.segface",
        "SegFace",
        head=None,
        class_count=_token_count,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        options={"backbone": backbone},
        label_space="segface",
        landmarks=("lapa",),
        sizes=(224, 256, 448, 512) if backbone == "swin_base" else (512,),
    )


KINDS: Mapping[str, Kind] = {
    "face_lite": Kind("semfacediff.parsing.face_lite", "FaceLite", head="head.1.bias"),
    "fastscnn_lite": Kind("semfacediff.parsing.fastscnn_lite", "FastSCNNLite", head="classifier.3.bias"),
    "unet_lite": Kind("semfacediff.parsing.unet_lite", "UNetLite", head="output.bias"),
    "deeplabv3plus_lite": Kind(
        "semfacediff.parsing.deeplabv3plus_lite", "DeepLabV3PlusLite", head="decoder.conv_out.bias"
    ),
    "segformer_lite": Kind(
        "semfacediff.parsing.segformer_lite", "SegFormerLite", head="decoder.classifier.bias", inferred=_upsampling
    ),
    **{f"segformer_b{i}": _segformer(f"b{i}") for i in range(6)},
    **{f"segface_{backbone}": _segface(backbone) for backbone in SEGFACE_BACKBONES},
}


FPN = "fpn_"
"""Before the name of an encoder of timm."""


def kind(name: str) -> Kind:
    """The architecture called ``name``; a :class:`UserError` lists the known ones."""
    if name.startswith(FPN):
        return _fpn(name.removeprefix(FPN))
    if name not in KINDS:
        own = find("parser", name)
        if isinstance(own, Kind):
            return own
        if own is not None:
            raise UserError(f"parser '{name}' is no architecture but parses by itself; it has nothing to train or load")
        raise UserError(f"unknown parser '{name}'; choose one of {', '.join(KINDS)}, or {FPN}ENCODER (any of timm)")
    return KINDS[name]


@functools.cache
def _fpn(encoder: str) -> Kind:
    from semfacediff.parsing.fpn import normalisation  # timm takes a while to import

    mean, std = normalisation(encoder)
    return Kind("semfacediff.parsing.fpn", "FPN", head="head.1.bias", mean=mean, std=std, options={"encoder": encoder})


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

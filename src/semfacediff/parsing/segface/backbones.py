"""torchvision's networks as encoders that give four maps, under the key names of the released checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models import get_model

from semfacediff.errors import UserError


@dataclass(frozen=True)
class Spec:
    """Which network, what of it the encoder keeps, and where its maps are taken.

    Attributes:
        network: torchvision's name of it.
        taps: positions of the layers whose outputs are the maps at strides 4, 8, 16 and 32; the last layer is the last.
        widths: their channels.
        parts: torchvision's names of the kept parts -> their places in the encoder. ``""``: the encoder's children are
            the part's own.
        channels_last: the layers work on ``[N, h, w, C]``.
    """

    network: str
    taps: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    parts: Mapping[str, str]
    channels_last: bool = False

    def renamed(self, key: str) -> str | None:
        """The encoder's name of a key of torchvision's network; ``None`` for what is not kept (its classifier)."""
        part, _, rest = key.partition(".")
        place = self.parts.get(part)
        return None if place is None else f"{place}.{rest}".removeprefix(".")


_BASE, _SMALL = (128, 256, 512, 1024), (96, 192, 384, 768)
_STAGES = (1, 3, 5, 7)
_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_FEATURES: Mapping[str, str] = {"features": ""}


def _swin(network: str, widths: tuple[int, int, int, int]) -> Spec:
    # The norm before the classifier is in the checkpoints. No map passes through it.
    return Spec(network, _STAGES, widths, {"features": "0", "norm": "1"}, channels_last=True)


def _convnext(network: str, widths: tuple[int, int, int, int]) -> Spec:
    return Spec(network, _STAGES, widths, {"features": "0"})


BACKBONES: Mapping[str, Spec] = {
    "swin_base": _swin("swin_b", _BASE),
    "swinv2_base": _swin("swin_v2_b", _BASE),
    "swinv2_small": _swin("swin_v2_s", _SMALL),
    "swinv2_tiny": _swin("swin_v2_t", _SMALL),
    "convnext_base": _convnext("convnext_base", _BASE),
    "convnext_small": _convnext("convnext_small", _SMALL),
    "convnext_tiny": _convnext("convnext_small", _SMALL),  # what was released under this name is a small one
    "resnet": Spec("resnet101", (4, 5, 6, 7), (256, 512, 1024, 2048), {p: str(i) for i, p in enumerate(_RESNET)}),
    "mobilenet": Spec("mobilenet_v3_large", (3, 6, 12, 16), (24, 40, 112, 960), _FEATURES),
    "efficientnet": Spec("efficientnet_v2_m", (2, 3, 5, 8), (48, 80, 176, 1280), _FEATURES),
}


def spec(backbone: str) -> Spec:
    """The backbone called ``backbone``; a :class:`UserError` lists the known ones."""
    if backbone not in BACKBONES:
        raise UserError(f"segface: unknown backbone '{backbone}'; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[backbone]


class Backbone(nn.Sequential):
    """Normalised float32 [N,3,H,W] -> maps [N,h,w,C] at strides 4, 8, 16, 32; H, W multiples of 32.

    Channels come last: that is how the fusion wants them. Nothing behind the last map is computed or, but for keys
    that the released checkpoints have, kept.
    """

    def __init__(self, backbone: str):
        s = spec(backbone)
        net = get_model(s.network, weights=None)
        children = []
        for part, place in s.parts.items():
            module = getattr(net, part)
            children += [module] if place else list(module.children())
        super().__init__(*children)
        self.spec = s
        if "norm" in s.parts:
            self[1].requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        layers: nn.Sequential = self
        if "0" in self.spec.parts.get("features", "") and isinstance(self[0], nn.Sequential):
            layers = self[0]
        maps = []
        for position, layer in enumerate(layers):
            x = layer(x)
            if position in self.spec.taps:
                maps.append(x if self.spec.channels_last else x.permute(0, 2, 3, 1))
        return maps

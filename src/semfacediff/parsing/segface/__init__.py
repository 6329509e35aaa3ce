"""SegFace (Narayan et al., AAAI 2025): a torchvision backbone and one learned token for each class.

Backbone -> four maps -> one map of 256 channels at a quarter of the size -> tokens and map attend to each other -> the
map, enlarged to the whole size, times the tokens. Module names follow the released checkpoints. Nothing in this file
needs torchvision, which takes seconds to import.
"""

from collections.abc import Mapping

from torch import Tensor

from semfacediff.parsing.registry import IMAGENET_MEAN, IMAGENET_STD, Family, Kind


def _token_count(state: Mapping[str, Tensor]) -> int | None:
    """Its tokens are a tensor each. By which they are, not how many: a missing one is to be listed."""
    before, after = "face_decoder.", "_token.weight"
    tokens = {k[len(before) : -len(after)] for k in state if k.startswith(before) and k.endswith(after)}
    if not tokens:
        return None
    return 19 if tokens & {"neck", "cloth", "glass", "hat", "earring", "necklace"} else 11


def _kind(backbone: str) -> Kind:
    return Kind(
        f"{__name__}.model",
        "SegFace",
        head=None,
        class_count=_token_count,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        options={"backbone": backbone},
        label_space="segface",
        landmarks=("lapa",),
        starts=f"{__name__}.pretrained",
        sizes=(224, 256, 448, 512) if backbone == "swin_base" else (512,),
    )


PARSER = Family(
    _kind,
    (
        *("swin_base", "swinv2_base", "swinv2_small", "swinv2_tiny"),
        *("convnext_base", "convnext_small", "convnext_tiny", "resnet", "mobilenet", "efficientnet"),
    ),
)

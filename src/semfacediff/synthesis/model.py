"""SCA-DM: faces from a label map and one style token a class (Ergasti et al. 2024).

A frozen autoencoder, a style encoder and a denoiser in its latents; the latter two are trained together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.prediction import checked
from semfacediff.synthesis.style_encoder import StyleEncoder
from semfacediff.synthesis.unet import LATENT_CHANNELS, UNet


@dataclass(frozen=True)
class SCADMOptions:
    """Hyper-parameters; the defaults are the published ones. :data:`PRESETS` has smaller ones.

    Attributes:
        classes: K, classes of the label space.
        image_size: side in px of photos and label maps.
        vq_channels, vq_multipliers, vq_layers, vq_codes: of :class:`~semfacediff.synthesis.first_stage.FirstStage`.
        style_features, style_down, token_width: of :class:`~semfacediff.synthesis.style_encoder.StyleEncoder`.
        unet_channels, unet_multipliers, unet_layers, attention_factors, head_width, mask_attention: of
            :class:`~semfacediff.synthesis.unet.UNet`.
        interleave_skips: corrected variant: the style encoder keeps every class to its own channels.
        absent_token: corrected variant: a learned token for parts that the reference does not show.
        trained_null: corrected variant: the null condition of guidance occurs in training, see :meth:`SCADM.dropped`.
        prediction: of the denoiser, ``epsilon`` as published or ``v``, see :mod:`semfacediff.synthesis.prediction`.

    Raises:
        UserError: sizes that make no network; the sentence begins with the option's name.
    """

    classes: int = 19
    image_size: int = 256
    vq_channels: int = 128
    vq_multipliers: tuple[int, ...] = (1, 2, 4)
    vq_layers: int = 2
    vq_codes: int = 8192
    style_features: int = 4
    style_down: int = 6
    token_width: int = 256
    unet_channels: int = 224
    unet_multipliers: tuple[int, ...] = (1, 2, 3, 4)
    unet_layers: int = 2
    attention_factors: tuple[int, ...] = (2, 4, 8)
    head_width: int = 32
    mask_attention: bool = True
    interleave_skips: bool = False
    absent_token: bool = False
    trained_null: bool = False
    prediction: str = "epsilon"

    def __post_init__(self):
        checked(self.prediction)
        for name in ("vq_multipliers", "unet_multipliers", "attention_factors"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists, as JSON and YAML have them
        self._check_positive()
        self._check_widths()
        self._check_halvings()

    def _check_positive(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < _COUNTS[name]:
                raise UserError(f"{name}: expected at least {_COUNTS[name]}, got {getattr(self, name)}")
        for name in ("vq_multipliers", "unet_multipliers"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise UserError(f"{name}: expected a whole number from 1 on for every level, got {getattr(self, name)}")

    def _check_widths(self) -> None:
        for name in ("unet_channels", "vq_channels"):
            if getattr(self, name) % 32:
                raise UserError(
                    f"{name}: expected a multiple of 32 (groups of the normalisations), got {getattr(self, name)}"
                )
        factors = [2**level for level in range(len(self.unet_multipliers))]
        if foreign := [f for f in self.attention_factors if f not in factors]:
            raise UserError(
                f"attention_factors: expected some of {', '.join(map(str, factors))}, by which the levels of "
                f"unet_multipliers={list(self.unet_multipliers)} are smaller than the latent, got {foreign[0]}"
            )
        widths = [self.unet_channels * m for m in self.unet_multipliers]
        # The middle, as wide as the last level, always has a transformer.
        attended = {w for w, f in zip(widths, factors, strict=True) if f in self.attention_factors} | {widths[-1]}
        if (divided := math.gcd(*attended)) % self.head_width:
            raise UserError(
                f"head_width: expected a divisor of {divided} (transformers are "
                f"{', '.join(map(str, sorted(attended)))} channels wide, in whole heads), got {self.head_width}"
            )

    def _check_halvings(self) -> None:
        halvings = self.latent_factor * 2 ** (len(self.unet_multipliers) - 1)
        step = max(2**self.style_down, halvings)
        if self.image_size % step:
            raise UserError(
                f"image_size: expected a multiple of {step} (style_down, vq_multipliers and unet_multipliers halve "
                f"that often), got {self.image_size}"
            )
        if self.image_size < 2 * halvings:
            raise UserError(
                f"image_size: expected at least {2 * halvings}, got {self.image_size}: vq_multipliers and "
                f"unet_multipliers halve it to a single pixel, which cannot be normalised; take fewer levels"
            )

    @property
    def latent_factor(self) -> int:
        """How many times smaller than the image a latent's side is."""
        return 2 ** (len(self.vq_multipliers) - 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        side = self.image_size // self.latent_factor
        return LATENT_CHANNELS, side, side

    @property
    def style_width(self) -> int:
        """Width of a whole token: all levels of the style encoder."""
        return (self.style_down - 1) * self.token_width


_COUNTS = {
    **dict.fromkeys(("classes", "image_size", "vq_channels", "vq_layers", "vq_codes", "style_features"), 1),
    **dict.fromkeys(("token_width", "unet_channels", "unet_layers", "head_width"), 1),
    "style_down": 2,  # a token has one part for each halving but the first
}
"""Hyper-parameters that are whole numbers, and their least."""
Made = TypeVar("Made", bound=nn.Module)

PRESETS = {
    "paper": SCADMOptions(),
    "small": SCADMOptions(
        image_size=128,
        vq_channels=64,
        vq_codes=1024,
        style_down=5,
        token_width=64,
        unet_channels=96,
        unet_layers=1,
        interleave_skips=True,
    ),
    "test": SCADMOptions(
        image_size=32,
        vq_channels=32,
        vq_multipliers=(1, 1, 2),
        vq_layers=1,
        vq_codes=64,
        style_features=2,
        style_down=3,
        token_width=8,
        unet_channels=32,
        unet_multipliers=(1, 2),
        unet_layers=1,
        attention_factors=(2,),
    ),
}
"""The paper's size, one for a single small accelerator, and one for a CPU's tests. The former two are what
``synthesis=paper`` and ``synthesis=small`` configure; the small one has a corrected variant, ``interleave_skips``."""


def unfilled(make: Callable[[], Made]) -> Made:
    """What ``make`` makes, on the CPU and without its random weights: all of them are about to be loaded."""
    with torch.device("meta"):
        model = make()
    return model.to_empty(device="cpu")


class SCADM(nn.Module):
    """The whole model; the first stage is frozen and stays in eval mode.

    Attributes:
        options: its hyper-parameters.
        first_stage, style_encoder, unet: its parts.
    """

    def __init__(self, options: SCADMOptions | None = None):
        super().__init__()
        self.options = o = options or SCADMOptions()
        self.first_stage = FirstStage(o.vq_channels, o.vq_multipliers, o.vq_layers, o.vq_codes, LATENT_CHANNELS)
        self.style_encoder = StyleEncoder(
            o.classes, o.style_features, o.style_down, o.token_width, o.interleave_skips, o.absent_token
        )
        self.unet = UNet(
            classes=o.classes,
            channels=o.unet_channels,
            multipliers=o.unet_multipliers,
            layers=o.unet_layers,
            attention_factors=o.attention_factors,
            head_width=o.head_width,
            token_width=o.style_width,
            mask_attention=o.mask_attention,
        )
        self.first_stage.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SCADM":
        super().train(mode)
        self.first_stage.eval()
        return self

    def in_precision(self, dtype: torch.dtype) -> "SCADM":
        """Denoiser and style encoder in ``dtype``; the first stage stays in float32, for it may overflow in half."""
        self.style_encoder.to(dtype)
        self.unet.to(dtype)
        return self

    def for_sampling(self, on: torch.device, precision: torch.dtype, compiled: bool) -> "SCADM":
        """On a device, :meth:`in_precision`, in eval mode.

        Args:
            compiled: the denoiser through ``torch.compile``, a minute or two at its first step, of each batch size;
                nothing on the CPU, where no compiler need be.
        """
        model = self.eval().to(on).in_precision(precision)
        if compiled and on.type != "cpu":
            model.unet.denoise = torch.compile(model.unet.denoise)  # type: ignore[method-assign]  # of this one alone
        return model

    def forward(
        self,
        latents: Tensor,
        t: Tensor,
        images: Tensor,
        mask: Tensor,
        style_mask: Tensor | None = None,
        dropped: Tensor | None = None,
    ) -> Tensor:
        """What ``prediction`` says, float ``[N,3,h,w]``; one call for both parts, as distributed training needs.

        Args:
            latents: float ``[N,3,h,w]``, noisy.
            t: int64 ``[N]`` in 0..999.
            images: float ``[N,3,H,W]`` in [-1,1] for the style encoder; zeros = no style.
            mask: float one-hot ``[N,K,H,W]``.
            style_mask: where the style encoder looks, if not at ``mask``: leave parts out to train ``absent_token``.
            dropped: bool ``[N]``: samples that are to be denoised under the null condition.
        """
        tokens = self.style_encoder(images, mask if style_mask is None else style_mask)
        if dropped is not None:
            tokens, mask = self.dropped(tokens, mask, dropped)
        return self.unet(latents, t, tokens, mask)

    def dropped(self, tokens: Tensor, mask: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and mask, both zero in the samples of ``which``, bool ``[N]``: the null condition of guidance.

        The published training never did this; ``trained_null`` says that this model's did.
        """
        keep = ~which
        return tokens * keep[:, None, None], mask * keep[:, None, None, None]

    def null_condition(self) -> tuple[Tensor, Tensor]:
        """Tokens ``[1,K,L*D]`` and mask ``[1,K,H,W]`` of zeros, on the model's device."""
        o, like = self.options, self.unet.out.get_parameter("0.weight")
        return (
            torch.zeros(1, o.classes, o.style_width, device=like.device, dtype=like.dtype),
            torch.zeros(1, o.classes, o.image_size, o.image_size, device=like.device, dtype=like.dtype),
        )

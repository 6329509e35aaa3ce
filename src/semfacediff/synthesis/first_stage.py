"""The frozen autoencoder that the denoiser works in: VQ-f4 of latent diffusion, through diffusers' ``VQModel``."""

from collections.abc import Sequence

import torch
from diffusers import VQModel
from torch import Tensor, nn


class FirstStage(nn.Module):
    """Vector-quantised autoencoder. The defaults are the published VQ-f4: 8,192 codes of 3 numbers, a quarter the side.

    Args:
        channels: width of the first level.
        multipliers: of ``channels``, one a level; every level but the last halves the side.
        layers: residual blocks a level (one more in the decoder).
        codes: size of the codebook.
    """

    def __init__(
        self,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 4),
        layers: int = 2,
        codes: int = 8192,
        latent_channels: int = 3,
    ):
        super().__init__()
        levels = len(multipliers)
        self.factor = 2 ** (levels - 1)
        self.vq = VQModel(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(channels * m for m in multipliers),
            layers_per_block=layers,
            latent_channels=latent_channels,
            num_vq_embeddings=codes,
            scaling_factor=1.0,
        )

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, which images and latents must have."""
        return self.vq.dtype

    def encode(self, images: Tensor) -> Tensor:
        """Latents before quantisation, float ``[N,3,H/f,W/f]``, of images ``[N,3,H,W]`` in [-1,1]; f = ``factor``."""
        return self.vq.encode(images).latents

    def decode(self, latents: Tensor, quantise: bool = True) -> Tensor:
        """Images of about [-1,1], not clamped, float ``[N,3,H,W]``; ``quantise`` takes the nearest codes first."""
        if quantise:
            latents = self.vq.quantize.embedding(self.code_index(latents)).movedim(-1, 1)
        return self.vq.decode(latents, force_not_quantize=True).sample

    def code_index(self, latents: Tensor) -> Tensor:
        """int64 ``[N,h,w]``: the codebook entry nearest to every latent (L2)."""
        book = self.vq.quantize.embedding.weight
        apart = torch.cdist(latents.movedim(1, -1).flatten(0, 2).float(), book.float())
        return apart.argmin(1).view(len(latents), *latents.shape[-2:])

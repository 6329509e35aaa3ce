"""Training of a vector-quantised autoencoder (van den Oord et al., NeurIPS 2017), diffusers' ``VQModel``.

A codebook that starts near zero catches few of the encoder's outputs and most codes die. Hence the first steps go past
it, it then starts from outputs of the encoder, and codes that are not used are moved to such outputs now and then.
"""

import torch
from diffusers import VQModel
from torch import Tensor, nn


class QuantisedAutoencoder(nn.Module):
    """Reconstruction and codebook loss of a ``VQModel``.

    Args:
        vq: the autoencoder. commitment: weight of how far the encoder may leave the codes (beta).
    """

    def __init__(self, vq: VQModel, commitment: float):
        super().__init__()
        self.vq, self.commitment = vq, commitment

    def forward(self, images: Tensor, quantise: bool) -> Tensor:
        """float32 ``[N]``: absolute plus squared error, and with ``quantise`` the distance of latents and codes.

        Args:
            images: ``[N, 3, S, S]`` in [-1,1].
        """
        z = self.vq.quant_conv(self.vq.encoder(images))
        chosen = z
        matched = torch.zeros(len(z), device=z.device)
        if quantise:
            e = nearest(z, self.vq.quantize.embedding.weight)
            matched = (e - z.detach()).square().mean((1, 2, 3)) + self.commitment * (e.detach() - z).square().mean(
                (1, 2, 3)
            )
            chosen = z + (e - z).detach()  # straight through: the decoder's gradient goes to the encoder
        made = self.vq.decoder(self.vq.post_quant_conv(chosen)).float()
        error = made - images
        return error.abs().mean((1, 2, 3)) + error.square().mean((1, 2, 3)) + matched.float()


def nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """``[N, c, h, w]``: for each latent vector the code (``[K, c]``) with the smallest Euclidean distance."""
    flat = latents.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
    found = torch.cdist(flat.detach().float(), codes.detach().float()).argmin(1)
    n, _, h, w = latents.shape
    return codes[found].view(n, h, w, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def revive(codes: Tensor, latents: Tensor, generator: torch.Generator, all_of_them: bool = False) -> int:
    """Move codes (``[K, c]``, in place) that no latent is nearest to onto latents drawn at random; returns how many.

    Args:
        latents: ``[N, c, h, w]``. all_of_them: the used ones too, as at the start.
    """
    flat = latents.permute(0, 2, 3, 1).reshape(-1, codes.shape[1])
    used = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    if not all_of_them:
        used[torch.cdist(flat, codes).argmin(1)] = True
    dead = (~used).nonzero().flatten()
    drawn = torch.randint(len(flat), (len(dead),), generator=generator).to(flat.device)
    codes[dead] = flat[drawn]
    return len(dead)


@torch.no_grad()
def standardise(vq: VQModel, latents: Tensor) -> None:
    """Shift and scale the latent space so that ``latents`` get mean 0 (each channel) and standard deviation 1 (all).

    Written into the 1x1 convolutions on both sides and into the codes; every reconstruction stays what it was. The
    diffusion needs no scale factor then, as the published first stage does not.

    Args:
        latents: ``[N, c, h, w]`` of this ``vq``.
    """
    mean = latents.mean((0, 2, 3))
    std = (latents - mean.view(1, -1, 1, 1)).square().mean().sqrt()
    into, out, codes = vq.quant_conv, vq.post_quant_conv, vq.quantize.embedding.weight
    into.weight /= std
    into.bias.copy_((into.bias - mean) / std)
    codes.copy_((codes - mean) / std)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std

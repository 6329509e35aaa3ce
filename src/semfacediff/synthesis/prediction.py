"""What the denoiser's output stands for: the noise, as published, or the velocity.

diffusers' schedulers have the same formulas for whole steps; here the step may differ from sample to sample, and both
directions stand side by side.
"""

from torch import Tensor

from semfacediff.errors import UserError

PREDICTIONS = ("epsilon", "v")
"""``epsilon``: the noise. ``v``: sqrt(a) noise - sqrt(1 - a) latent (Salimans and Ho, ICLR 2022, section 4), in which
the latent is all there is to predict where nearly all is noise; there an error of the noise is divided by sqrt(a)."""


def checked(prediction: str) -> str:
    """``prediction``, if it is one of :data:`PREDICTIONS`.

    Raises:
        UserError: it is not.
    """
    if prediction not in PREDICTIONS:
        raise UserError(f"prediction: expected {' or '.join(PREDICTIONS)}, got '{prediction}'")
    return prediction


def _roots(kept: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    a = kept.to(like).view(-1, 1, 1, 1)
    return a.sqrt(), (1 - a).sqrt()


def noised(latents: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) noise (Ho et al., NeurIPS 2020, equation 4).

    Args:
        latents, noise: float32 ``[N,c,h,w]``.
        kept: ``[N]``, a_t of every sample's step: the share of the latent's variance that is left.
    """
    signal, sigma = _roots(kept, latents)
    return signal * latents + sigma * noise


def target(latents: Tensor, noise: Tensor, kept: Tensor, prediction: str) -> Tensor:
    """What the denoiser is to say of ``noised(latents, noise, kept)``; arguments and shape as there."""
    if prediction == "epsilon":
        return noise
    signal, sigma = _roots(kept, latents)
    return signal * noise - sigma * latents


def predicted_noise(output: Tensor, noisy: Tensor, kept: Tensor, prediction: str) -> Tensor:
    """The noise that the denoiser's ``output`` on ``noisy`` means; float32 ``[N,c,h,w]`` all."""
    if prediction == "epsilon":
        return output
    signal, sigma = _roots(kept, noisy)
    return signal * output + sigma * noisy

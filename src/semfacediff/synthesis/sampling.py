"""From noise to latents and back: time steps, guidance in both published forms, seeds, DDIM inversion.

The schedule is the published one: 1000 steps, betas the squares of evenly spaced roots.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.seeding import derive_seed
from semfacediff.synthesis.prediction import predicted_noise
from semfacediff.synthesis.unet import Condition, UNet

TRAIN_STEPS = 1000
_SCHEDULE = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "clip_sample": False,
}
# The last step ends at the first noise level, not at none.
_DDIM = {**_SCHEDULE, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Noise in latents: float32 ``[N,3,h,w]`` and int64 ``[N]`` steps to float32 ``[N,3,h,w]``."""
OnStep = Callable[[int, int], None]
"""Is told (steps taken, of how many)."""


def training_schedule() -> DDPMScheduler:
    """The schedule for ``add_noise`` in training, and for ancestral sampling over all its steps."""
    return DDPMScheduler(**_SCHEDULE)


@dataclass(frozen=True)
class SamplingOptions:
    """How noise becomes a latent.

    Attributes:
        steps: of the sampler; at full width on a CPU a step takes about two seconds.
        sampler: ``ddim``, or ``ddpm``: ancestral, all 1000 steps.
        eta: noise added by DDIM, 0 (none) to 1.
        spacing: ``even`` takes step counts that divide 1000 and refuses others; ``compatible`` takes any count that the
            release can run, as it runs it: 60 are 63 steps.
        guidance: how far past the conditional prediction to go; ``None`` = no guidance. Says nothing without
        guidance_form: ``code``: null + s (cond - null), so 1 is none; ``paper`` (its Eq. 4):
            cond + s (cond - null), so 0 is none and s is the code's s + 1.
        seed: of the run; every sample has a generator of its own, derived from it and the sample's id.

    Raises:
        UserError: a value out of range, a step count that the schedule cannot give, guidance without its form.
    """

    steps: int = 200
    sampler: str = "ddim"
    eta: float = 0.0
    spacing: str = "even"
    guidance: float | None = None
    guidance_form: str | None = None
    seed: int = 42

    def __post_init__(self):
        for name, choices in (("sampler", ("ddim", "ddpm")), ("spacing", ("even", "compatible"))):
            if getattr(self, name) not in choices:
                raise UserError(f"{name}: expected {' or '.join(choices)}, got '{getattr(self, name)}'")
        if not isinstance(self.steps, int):
            raise UserError(f"steps: expected a whole number, got {self.steps!r}")
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta: expected 0 to 1, got {self.eta:g}")
        if self.eta and self.sampler == "ddpm":
            raise UserError(f"eta: sampler=ddpm adds its own noise, got {self.eta:g}; leave it at 0")
        if self.guidance is None and self.guidance_form is not None:
            raise UserError(f"guidance_form={self.guidance_form} without guidance: set guidance=NUMBER, or neither")
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise UserError(f"guidance: expected a finite number, got {self.guidance}")
        if self.guidance is not None and self.guidance_form not in ("code", "paper"):
            raise UserError(
                f"guidance {self.guidance:g} is ambiguous: name its form, guidance_form=code (null + s (cond - null)) "
                f"or guidance_form=paper (cond + s (cond - null), in the code's terms {self.guidance + 1:g})"
            )
        self.timesteps()

    @property
    def scale(self) -> float:
        """s of null + s (cond - null); 1 = no guidance."""
        if self.guidance is None:
            return 1.0
        return self.guidance + (self.guidance_form == "paper")

    def timesteps(self) -> list[int]:
        """Training steps in the order of sampling, from noisy to clean."""
        if self.sampler == "ddpm":
            if self.steps != TRAIN_STEPS:
                raise UserError(
                    f"steps: sampler=ddpm takes all {TRAIN_STEPS}, got {self.steps}; use sampler=ddim for fewer"
                )
            return list(range(TRAIN_STEPS - 1, -1, -1))
        return ddim_timesteps(
            self.steps, self.spacing, every=f"sampler=ddpm steps={TRAIN_STEPS}", more="spacing=compatible"
        )


def ddim_timesteps(
    steps: int, spacing: str = "even", key: str = "steps", every: str | None = None, more: str | None = None
) -> list[int]:
    """Training steps that DDIM takes, from noisy to clean.

    Args:
        steps, spacing: see :class:`SamplingOptions`.
        key: what ``steps`` is called where it is set.
        every, more: how all training steps, and the release's larger count, can be asked for there; ``None`` = not.

    Raises:
        UserError: a count that the schedule cannot give.
    """
    if not 1 <= steps <= TRAIN_STEPS:
        raise UserError(f"{key}: expected 1 to {TRAIN_STEPS}, got {steps}")
    found = list(range(1, TRAIN_STEPS + 1, TRAIN_STEPS // steps))
    if found[-1] == TRAIN_STEPS:
        raise UserError(
            f"{key}: {steps} would need step {TRAIN_STEPS} of a schedule that ends at {TRAIN_STEPS - 1}; "
            f"use {_dividing(steps)}" + (f", or {every}" if every else "")
        )
    if len(found) != steps and spacing == "even":
        raise UserError(
            f"{key}: {steps} does not divide {TRAIN_STEPS} (the release would silently take {len(found)}); "
            f"use {_dividing(steps)}" + (f", or {more} for those {len(found)}" if more else "")
        )
    return found[::-1]


def _dividing(steps: int) -> str:
    """The step counts nearest to ``steps`` that DDIM can take evenly."""
    counts = [n for n in range(1, TRAIN_STEPS) if TRAIN_STEPS % n == 0]
    below, above = [n for n in counts if n <= steps], [n for n in counts if n > steps]
    return " or ".join(str(n) for n in (*below[-1:], *above[:1]))


def generators(ids: Sequence[str], seed: int, draw: int = 0) -> list[torch.Generator]:
    """One a sample, on the CPU: what a sample becomes depends on no other sample, nor on the device.

    Args:
        ids: of the samples.
        seed: of the run.
        draw: counts several results for the same sample.
    """
    return [torch.Generator().manual_seed(derive_seed(seed, id, "synthesis", draw)) for id in ids]


def start_noise(shape: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Tensor:
    """float32 ``[N,*shape]`` on the CPU, the first that every generator draws."""
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


def denoiser(
    unet: UNet,
    condition: Condition,
    null: Condition | None = None,
    scale: float = 1.0,
    prediction: str = "epsilon",
) -> Denoiser:
    """Guided noise prediction: null + ``scale`` (cond - null).

    Args:
        unet: computes in its own precision.
        condition: what its layers read, see :meth:`UNet.condition`; computed once for all steps.
        null: the same of the null condition; unused where ``scale`` is 1.
        scale: in the form of the released code.
        prediction: of the model's options.
    """
    if null is None and scale != 1:
        raise ValueError(f"guidance of scale {scale:g} needs the null condition")
    dtype = unet.out.get_parameter("0.weight").dtype
    kept = training_schedule().alphas_cumprod

    def noise_in(x: Tensor, t: Tensor, given: Condition) -> Tensor:
        return predicted_noise(unet.denoise(x.to(dtype), t, given).float(), x, kept.to(t.device)[t], prediction)

    def predicted(x: Tensor, t: Tensor) -> Tensor:
        conditional = noise_in(x, t, condition)
        if scale == 1 or null is None:
            return conditional
        unconditional = noise_in(x, t, null)
        return unconditional + scale * (conditional - unconditional)

    return predicted


def _ready(scheduler: DDIMScheduler | DDIMInverseScheduler, options: SamplingOptions, steps: list[int]) -> None:
    # Set by hand: the scheduler goes back by 1000 // num_inference_steps from each, for any count asked.
    scheduler.num_inference_steps = options.steps
    scheduler.timesteps = torch.tensor(steps)


@torch.no_grad()
def sample(
    eps: Denoiser,
    noise: Tensor,
    options: SamplingOptions,
    generators: Sequence[torch.Generator] = (),
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents, float32 ``[N,3,h,w]``.

    Args:
        eps: noise prediction.
        noise: float32 ``[N,3,h,w]``.
        options: steps and sampler.
        generators: one a sample, for the noise that is added on the way; unused where ``eta`` is 0.
        on_step: called after every step; whatever it raises ends the sampling.
    """
    steps = options.timesteps()
    if options.sampler == "ddpm":
        scheduler, further = training_schedule(), {}
        scheduler.set_timesteps(timesteps=steps)
    else:
        scheduler, further = DDIMScheduler(**_DDIM), {"eta": options.eta}
        _ready(scheduler, options, steps)
    x = noise
    for taken, t in enumerate(steps, 1):
        noise_in_x = eps(x, torch.full((len(x),), t, device=x.device))
        x = scheduler.step(noise_in_x, t, x, generator=list(generators) or None, **further).prev_sample
        if on_step:
            on_step(taken, len(steps))
    return x


@torch.no_grad()
def invert(eps: Denoiser, latents: Tensor, options: SamplingOptions, refinements: int = 0) -> Tensor:
    """Noise that :func:`sample` turns into ``latents`` again, nearly: DDIM backwards.

    A step's noise is predicted from where the step starts, although it should be from where it ends; every refinement
    predicts it again from the end found so far.

    Args:
        eps: noise prediction, without guidance as a rule.
        latents: float32 ``[N,3,h,w]``, of photos.
        options: steps, as :func:`sample` will take them.
        refinements: additional predictions a step.

    Raises:
        UserError: a sampler that adds noise cannot be run backwards.
    """
    if refinements < 0:
        raise UserError(f"refinements: expected 0 or more, got {refinements}")
    if options.sampler != "ddim" or options.eta:
        raise UserError(f"inversion needs sampler=ddim eta=0, got sampler={options.sampler} eta={options.eta:g}")
    scheduler = DDIMInverseScheduler(**_DDIM)
    steps = options.timesteps()[::-1]
    _ready(scheduler, options, steps)
    x = latents
    for t in steps:
        now, start = torch.full((len(x),), t, device=x.device), x
        for _ in range(1 + refinements):
            x = scheduler.step(eps(x, now), t, start).prev_sample
    return x

"""Noise and velocity against diffusers, and against each other."""

import pytest
import torch
from diffusers import DDIMScheduler

from semfacediff.errors import UserError
from semfacediff.synthesis.model import SCADMOptions
from semfacediff.synthesis.prediction import PREDICTIONS, noised, predicted_noise, target
from semfacediff.synthesis.sampling import SamplingOptions, denoiser, sample, training_schedule

STEPS = torch.tensor([0, 500, 999])


@pytest.fixture
def drawn():
    g = torch.Generator().manual_seed(3)
    kept = training_schedule().alphas_cumprod[STEPS]
    return torch.randn(3, 3, 4, 4, generator=g), torch.randn(3, 3, 4, 4, generator=g), kept


def test_noising_and_velocity_are_those_of_diffusers(drawn):
    z, noise, kept = drawn
    schedule = training_schedule()
    torch.testing.assert_close(noised(z, noise, kept), schedule.add_noise(z, noise, STEPS))
    torch.testing.assert_close(target(z, noise, kept, "v"), schedule.get_velocity(z, noise, STEPS))
    assert target(z, noise, kept, "epsilon") is noise


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_prediction_gives_the_noise_back(drawn, prediction):
    z, noise, kept = drawn
    found = predicted_noise(target(z, noise, kept, prediction), noised(z, noise, kept), kept, prediction)
    torch.testing.assert_close(found, noise)


def test_where_all_is_noise_the_velocity_is_the_latent(drawn):
    z, noise, kept = drawn
    assert (target(z, noise, kept, "v")[-1] + z[-1]).abs().max() < 0.1


class Says(torch.nn.Module):
    """Stands for a UNet: a fixed function of its input."""

    def __init__(self):
        super().__init__()
        self.out = torch.nn.ModuleList([torch.nn.Conv2d(3, 3, 1)])

    def denoise(self, x, t, condition):
        return torch.tanh(x * condition)


def test_sampling_a_velocity_model_is_diffusers_v_prediction():
    options, noise = SamplingOptions(steps=10), torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    ours = sample(denoiser(Says(), 0.5, prediction="v"), noise, options)
    theirs = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195,
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading",
        prediction_type="v_prediction",
    )  # fmt: skip
    theirs.set_timesteps(10)
    x = noise
    for t in theirs.timesteps:
        x = theirs.step(torch.tanh(x * 0.5), t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-4)


def test_guidance_of_velocities_is_guidance_of_noise():
    x, t, s = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([20, 700]), 2.2
    cond, null = (denoiser(Says(), c, prediction="v")(x, t) for c in (0.5, -1.0))
    torch.testing.assert_close(denoiser(Says(), 0.5, -1.0, s, "v")(x, t), null + s * (cond - null))


def test_another_prediction_is_refused():
    with pytest.raises(UserError, match="prediction: expected epsilon or v, got 'x0'"):
        SCADMOptions(prediction="x0")

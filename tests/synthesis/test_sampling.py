"""Time steps, both forms of guidance, published trajectories, seeds, and DDIM backwards."""

import re

import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.synthesis.sampling import (
    SamplingOptions,
    ddim_timesteps,
    denoiser,
    generators,
    invert,
    sample,
    start_noise,
    training_schedule,
)

NAME = "ddim_sampling"


@pytest.fixture(scope="module")
def found(outputs):
    return outputs(NAME)


def conditional(x, t):
    return 0.3 * x + 0.1 * torch.sin(t / 100)[:, None, None, None]


def unconditional(x, t):
    return 0.2 * x + 0.05 * torch.cos(t / 100)[:, None, None, None]


def guided(options):
    return lambda x, t: unconditional(x, t) + options.scale * (conditional(x, t) - unconditional(x, t))


def trajectory(eps, noise, options):
    """Latents after every step: what the noise prediction is given next, and the end."""
    seen = []
    end = sample(lambda x, t: (seen.append(x), eps(x, t))[1], noise, options)
    return torch.stack([*seen[1:], end])


@pytest.mark.parametrize(
    ("guidance", "name"),
    [
        ({}, "traj_unguided"),
        ({"guidance": 1.2, "guidance_form": "code"}, "traj_scale_1p2"),
        ({"guidance": 1.2, "guidance_form": "paper"}, "traj_paper_formula_s_1p2_equals_code_scale_2p2"),
    ],
)
def test_published_trajectories_come_out(found, guidance, name):
    options = SamplingOptions(steps=10, **guidance)
    torch.testing.assert_close(trajectory(guided(options), found["x_T"], options), found[name], rtol=1e-4, atol=1e-4)


def test_the_schedule_is_the_published_one(found, manifest):
    schedule = training_schedule()
    torch.testing.assert_close(schedule.betas.double(), found["betas_f64"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(schedule.alphas_cumprod.double(), found["alphas_cumprod_f64"], rtol=1e-4, atol=1e-6)
    steps = SamplingOptions(steps=10).timesteps()
    assert steps[::-1] == found["ddim_timesteps_10"].tolist()


def test_noise_added_on_the_way_has_the_published_size(found):
    """At eta 1; the noise prediction is constant zero, so what differs from eta 0 is the added noise and its share."""
    alphas, before, sigmas = (found[k].double() for k in ("ddim_alphas", "ddim_alphas_prev", "ddim_sigmas_eta1"))
    assert torch.allclose(((1 - before) / (1 - alphas) * (1 - alphas / before)).sqrt(), sigmas, atol=1e-6)
    options, drawing = SamplingOptions(steps=10, eta=1.0), generators(["a"], 0)
    noise = start_noise((3, 8, 8), drawing)
    x, again = noise.double(), generators(["a"], 0)
    start_noise((3, 8, 8), again)
    for i in range(9, -1, -1):
        x = (before[i] / alphas[i]).sqrt() * x + sigmas[i] * torch.randn(1, 3, 8, 8, generator=again[0])
    out = sample(lambda x, t: torch.zeros_like(x), noise, options, drawing)
    torch.testing.assert_close(out.double(), x, rtol=1e-4, atol=1e-4)


class TestSteps:
    @pytest.mark.parametrize(
        ("steps", "ways", "said"),
        [
            (7, {}, "n: 7 does not divide 1000 (the release would silently take 8); use 5 or 8"),
            (
                60,
                {"every": "e", "more": "m"},
                "n: 60 does not divide 1000 (the release would silently take 63); use 50 or 100, or m for those 63",
            ),
            (1000, {}, "n: 1000 would need step 1000 of a schedule that ends at 999; use 500"),
            (
                300,
                {"every": "e", "more": "m"},
                "n: 300 would need step 1000 of a schedule that ends at 999; use 250 or 500, or e",
            ),
            (1001, {"every": "e"}, "n: expected 1 to 1000, got 1001"),
        ],
    )
    def test_the_advice_is_what_there_is(self, steps, ways, said):
        with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
            ddim_timesteps(steps, key="n", **ways)

    def test_compatible_spacing_takes_the_steps_of_the_release(self, manifest):
        stated = manifest(NAME)["actual_steps_for_requested"]
        possible = {n: s for n, s in stated.items() if s["last"] < 1000}
        assert len(possible) == len(stated) - 2
        for n, s in possible.items():
            steps = SamplingOptions(int(n), spacing="compatible").timesteps()
            assert (len(steps), steps[-1], steps[0]) == (s["n"], s["first"], s["last"])
            assert (np.diff(steps) == -(1000 // int(n))).all()

    @pytest.mark.parametrize("n", [1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500])
    def test_counts_that_divide_are_taken_exactly(self, n):
        assert len(SamplingOptions(n).timesteps()) == n

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"steps": 60},
                "steps: 60 does not divide 1000 (the release would silently take 63); use 50 or 100, or "
                "spacing=compatible for those 63",
            ),
            (
                {"steps": 1000},
                "steps: 1000 would need step 1000 of a schedule that ends at 999; use 500, or sampler=ddpm steps=1000",
            ),
            (
                {"steps": 300, "spacing": "compatible"},
                "steps: 300 would need step 1000 of a schedule that ends at 999; use 250 or 500, or sampler=ddpm "
                "steps=1000",
            ),
            ({"steps": 0}, "steps: expected 1 to 1000, got 0"),
            ({"sampler": "ddpm"}, "steps: sampler=ddpm takes all 1000, got 200; use sampler=ddim for fewer"),
            ({"sampler": "plms"}, "sampler: expected ddim or ddpm, got 'plms'"),
            ({"spacing": "wide"}, "spacing: expected even or compatible, got 'wide'"),
            ({"eta": 2.0}, "eta: expected 0 to 1, got 2"),
            (
                {"guidance": 1.2},
                "guidance 1.2 is ambiguous: name its form, guidance_form=code (null + s (cond - null)) or "
                "guidance_form=paper (cond + s (cond - null), in the code's terms 2.2)",
            ),
        ],
    )
    def test_what_cannot_be_is_said(self, options, message):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            SamplingOptions(**options)

    def test_steps_of_a_count_that_does_not_divide_go_back_by_their_distance(self):
        """With the noise that is in it, a latent arrives at the clean one whatever the steps."""
        options = SamplingOptions(60, spacing="compatible")
        clean, noise = torch.full((1, 3, 2, 2), 0.5), torch.ones(1, 3, 2, 2)
        alphas = training_schedule().alphas_cumprod
        start = alphas[993].sqrt() * clean + (1 - alphas[993]).sqrt() * noise
        end = sample(lambda x, t: noise, start, options)
        torch.testing.assert_close(end, alphas[0].sqrt() * clean + (1 - alphas[0]).sqrt() * noise, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("guidance", "form", "scale"), [(None, None, 1), (1.2, "code", 1.2), (1.2, "paper", 2.2), (0, "paper", 1)]
)
def test_the_scale_is_that_of_the_code(guidance, form, scale):
    assert SamplingOptions(guidance=guidance, guidance_form=form).scale == pytest.approx(scale)


def test_guidance_is_between_null_and_condition(tiny):
    torch.manual_seed(0)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([7, 7])
    tokens, mask = torch.randn(2, 19, 16), torch.zeros(2, 19, 32, 32)
    with torch.inference_mode():
        cond, null = (tiny.unet.condition(*c, (8, 8)) for c in ((tokens, mask), tiny.null_condition()))
        c, n = (denoiser(tiny.unet, e)(x, t) for e in (cond, null))
        torch.testing.assert_close(denoiser(tiny.unet, cond, null, 0.0)(x, t), n)
        torch.testing.assert_close(denoiser(tiny.unet, cond, null, 2.2)(x, t), c + 1.2 * (c - n), rtol=0, atol=1e-5)


def test_ancestral_sampling_takes_all_steps():
    """Of data that are one constant, whose noise is known exactly, it finds the constant."""
    alphas, seen = training_schedule().alphas_cumprod, []

    def eps(x, t):
        seen.append(int(t[0]))
        a = alphas[t[0]]
        return (x - a.sqrt() * 0.7) / (1 - a).sqrt()

    drawing = generators(["a", "b"], 1)
    out = sample(eps, start_noise((3, 2, 2), drawing), SamplingOptions(1000, sampler="ddpm"), drawing)
    assert seen == list(range(999, -1, -1))
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=0, atol=1e-3)


def test_noise_depends_on_seed_sample_and_draw_alone():
    def noise(ids, seed=42, draw=0):
        return start_noise((3, 4, 4), generators(ids, seed, draw))

    both = noise(["a", "b"])
    assert torch.equal(noise(["b", "c", "a"])[[2, 0]], both)
    others = (noise(["c"]), noise(["a"], seed=43), noise(["a"], draw=1), noise(["b"]))
    assert not any(torch.equal(o[0], both[0]) for o in others)


def test_noise_on_the_way_depends_on_the_sample_alone():
    options = SamplingOptions(5, eta=1.0)

    def made(ids):
        drawing = generators(ids, 42)
        return sample(conditional, start_noise((3, 4, 4), drawing), options, drawing)

    torch.testing.assert_close(made(["b", "a"])[1:], made(["a"]), rtol=0, atol=1e-6)


def test_every_step_is_told_and_any_may_be_the_last():
    seen, noise = [], torch.ones(1, 3, 2, 2)
    told = sample(conditional, noise, SamplingOptions(4), on_step=lambda *step: seen.append(step))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.equal(told, sample(conditional, noise, SamplingOptions(4)))

    def second(step, of):
        seen.append(step)
        if step == 2:
            raise InterruptedError

    seen.clear()
    with pytest.raises(InterruptedError):
        sample(conditional, noise, SamplingOptions(4), on_step=second)
    assert seen == [1, 2]


class TestInversion:
    def test_sampling_undoes_it_where_noise_does_not_depend_on_the_latent(self):
        noise, latents = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
        options = SamplingOptions(10)
        back = sample(lambda x, t: noise, invert(lambda x, t: noise, latents, options), options)
        torch.testing.assert_close(back, latents, rtol=0, atol=1e-4)

    def test_refinements_make_it_exact(self, found):
        latents = found["x_T"] / 10
        options = SamplingOptions(50)

        def error(refinements):
            back = sample(conditional, invert(conditional, latents, options, refinements), options)
            return (back - latents).abs().max().item()

        plain, refined = error(0), error(5)
        assert refined < 1e-3
        assert refined < plain / 100

    @pytest.mark.parametrize("options", [{"eta": 0.5}, {"sampler": "ddpm", "steps": 1000}])
    def test_added_noise_cannot_be_undone(self, options):
        with pytest.raises(UserError, match=r"inversion needs sampler=ddim eta=0, got sampler=\w+ eta=0"):
            invert(conditional, torch.zeros(1, 3, 2, 2), SamplingOptions(**options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance_form": "code"}, "guidance_form=code without guidance"),
        ({"guidance": float("nan"), "guidance_form": "code"}, "guidance: expected a finite number, got nan"),
        (
            {"sampler": "ddpm", "steps": 1000, "eta": 0.5},
            "eta: sampler=ddpm adds its own noise, got 0.5",
        ),
        ({"steps": 2.5}, "steps: expected a whole number, got 2.5"),
    ],
)
def test_options_that_would_say_nothing_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        SamplingOptions(**options)

"""A training step of SCA-DM's denoiser and style encoder, in half precision against float32."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from semfacediff import config
from semfacediff.commands.gpu_check.rows import Row, Sizes, judged, timed
from semfacediff.data.toy import ToyFaces
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.synthesis import PRESETS, SCADM
from semfacediff.synthesis.latents import PreparedFaces
from semfacediff.tasks.training.step import GradientStep, new_accelerator
from semfacediff.tasks.training.synthesis_objectives import DiffusionObjective


def training(sizes: Sizes, on: torch.device, folder: Path) -> Iterator[Row]:
    options, n = PRESETS[sizes.sca_dm], sizes.sca_dm_batch
    drawn = [ToyFaces(n, options.image_size)[i] for i in range(n)]
    latents = np.random.default_rng(0).normal(size=(n, *options.latent_shape)).astype(np.float32)
    photos, labels = (np.stack([getattr(face, of) for face in drawn]) for of in ("photo", "labels"))
    faces = PreparedFaces(tuple(f.id for f in drawn), CELEBAMASK, photos, labels.astype(np.uint8), latents)
    settings = config.typed(composed("train_synthesis", [], config.repository()), config.SynthesisTraining).diffusion
    torch.manual_seed(0)
    model = SCADM(options).to(on)
    objective = DiffusionObjective(model, settings, {"train": faces, "val": faces}, 0, on, folder)
    ours, plain = (timed(_step(objective, precision, n), on, sizes.steps) for precision in ("bfloat16", "float32"))
    losses = objective.validated(range(n))
    faults = [] if torch.isfinite(losses).all() else ["the loss is not finite"]
    name = f"training step of SCA-DM, {sizes.sca_dm}, batch {n}, bfloat16 against float32"
    yield judged(name, ours, plain, n, faults, 0.9 if sizes.bounded else None)


def _step(objective: DiffusionObjective, precision: str, n: int) -> Callable[[], None]:
    net = objective.net.train()
    step = GradientStep(new_accelerator(next(net.parameters()).device, precision), net, 1.0)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-6)

    def once() -> None:
        with step.autocast():
            losses = objective.losses(net, range(n), 0, 0)
        step.add(losses.mean())
        step.update(optimiser)

    return once

"""The two trainings of SCA-DM: denoiser with style encoder, and the first stage that they work in."""

import copy
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from semfacediff import config
from semfacediff.folders import replacing
from semfacediff.parsing.checkpoint import write_weights
from semfacediff.records.writing import write_bytes
from semfacediff.seeding import derive_seed
from semfacediff.synthesis.checkpoint import write_synthesis
from semfacediff.synthesis.codebook import QuantisedAutoencoder, revive, standardise
from semfacediff.synthesis.first_stage_files import CARD, FirstStageCard
from semfacediff.synthesis.latents import PreparedFaces, from_signed, to_signed
from semfacediff.synthesis.layouts import one_hot
from semfacediff.synthesis.losses import Dropout, drawn, squared_errors
from semfacediff.synthesis.model import SCADM, SCADMOptions
from semfacediff.synthesis.prediction import noised, target
from semfacediff.synthesis.sampling import training_schedule
from semfacediff.tasks.training.step_trainer import Objective

Draw = Callable[[int], None]
"""Draws pictures of a step."""
_STANDARDISED_ON = 256
"""Photos whose latents say how the latent space is scaled."""
_CHUNK = 16


class DiffusionObjective(Objective):
    """The noise in latents, or their velocity, given photo and label map.

    Args:
        train, val: with latents.
        sampled: called with the step when pictures are due.
    """

    named = "diffusion"

    def __init__(
        self,
        model: SCADM,
        settings: config.DiffusionConfig,
        train: PreparedFaces,
        val: PreparedFaces,
        seed: int,
        device: torch.device,
        sampled: Draw,
    ):
        self.net, self.train, self.val, self.seed, self.device = model, train, val, seed, device
        self.averaged = ("unet", "style_encoder") if settings.ema_of == "all" else ("unet",)
        self.dropout = Dropout(settings.image_dropout, settings.null_dropout, settings.part_dropout)
        self.alphas, self._draw = training_schedule().alphas_cumprod.to(device), sampled
        model.unet.checkpointing = settings.gradient_checkpointing

    @property
    def ids(self) -> Sequence[str]:
        return self.train.ids

    @property
    def n_val(self) -> int:
        return len(self.val)

    def losses(self, net: nn.Module, samples: Sequence[int], epoch: int, step: int) -> Tensor:
        return self._losses(net, self.train, samples, epoch)

    def validated(self, samples: Sequence[int]) -> Tensor:
        """With the dropout of the training, and draws that are the same at every validation."""
        chunks = (samples[i : i + _CHUNK] for i in range(0, len(samples), _CHUNK))
        return torch.cat([self._losses(self.net, self.val, chunk, "validation") for chunk in chunks])

    def _losses(self, net: nn.Module, faces: PreparedFaces, samples: Sequence[int], epoch: int | str) -> Tensor:
        chosen = np.asarray(samples)
        options = self.net.options
        keys = [(self.seed, epoch, faces.ids[i]) for i in samples]
        draws = drawn(keys, faces.latents.shape[1:], options.classes, self.dropout).to(self.device)
        images = to_signed(faces.photos[chosen]).to(self.device)
        images[draws.image_dropped] = 0
        mask = one_hot(torch.from_numpy(faces.labels[chosen]), options.classes).to(self.device)
        seen = mask * ~draws.part_dropped[:, :, None, None] if self.dropout.part else None
        latents = torch.from_numpy(faces.latents[chosen]).to(self.device)
        dropped = draws.all_dropped if self.dropout.everything else None
        kept = self.alphas[draws.steps]
        predicted = net(noised(latents, draws.noise, kept), draws.steps, images, mask, seen, dropped)
        return squared_errors(predicted, target(latents, draws.noise, kept, options.prediction))

    def sampled(self, step: int) -> None:
        self._draw(step)

    def save(self, folder: Path, state: dict | None, facts: dict) -> None:
        with replacing(folder) as new:
            write_synthesis(self.net, new, self.train.label_space.name, facts)
            _put_state(new, state)


class FirstStageObjective(Objective):
    """Reconstruction through a codebook."""

    named = "vq"
    averaged = ("vq",)

    def __init__(
        self,
        net: QuantisedAutoencoder,
        options: SCADMOptions,
        settings: config.VQConfig,
        train: PreparedFaces,
        val: PreparedFaces,
        seed: int,
        device: torch.device,
        sampled: Draw,
    ):
        self.net, self.options, self.settings, self.train, self.val = net, options, settings, train, val
        self.seed, self.device, self._draw = seed, device, sampled

    @property
    def ids(self) -> Sequence[str]:
        return self.train.ids

    @property
    def n_val(self) -> int:
        return len(self.val)

    def losses(self, net: nn.Module, samples: Sequence[int], epoch: int, step: int) -> Tensor:
        return net(self._images(self.train, samples), step >= self.settings.unquantised_steps)

    def before(self, step: int, samples: Sequence[int]) -> None:
        """The codebook starts from the first latents that it is given, and dead codes move now and then."""
        since = step - self.settings.unquantised_steps
        if since < 0 or since % self.settings.revive_every_steps:
            return
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "codebook", step))
        revive(self.net.vq.quantize.embedding.weight, self._latents(samples), generator, all_of_them=since == 0)

    def validated(self, samples: Sequence[int]) -> Tensor:
        chunks = (samples[i : i + _CHUNK] for i in range(0, len(samples), _CHUNK))
        return torch.cat([self.net(self._images(self.val, chunk), True) for chunk in chunks])

    def sampled(self, step: int) -> None:
        self._draw(step)

    def reconstructed(self, photos: np.ndarray) -> np.ndarray:
        """uint8 ``[N, S, S, 3]`` through the codebook, as the net is now."""
        with torch.inference_mode():
            return from_signed(self.net.vq(to_signed(photos).to(self.device)).sample)

    def save(self, folder: Path, state: dict | None, facts: dict) -> None:
        """Checkpoints for use have a latent space of mean 0 and deviation 1; those to be continued are as they are."""
        weights = self.net.state_dict() if state else self._standardised().state_dict()
        with replacing(folder) as new:
            write_weights(new, weights)
            (new / CARD).write_text(FirstStageCard.of(self.options, facts).text())
            _put_state(new, state)

    def _standardised(self) -> nn.Module:
        """A copy of the autoencoder, as :class:`semfacediff.synthesis.first_stage.FirstStage` holds it."""
        n = min(_STANDARDISED_ON, len(self.train))
        copied = nn.ModuleDict({"vq": copy.deepcopy(self.net.vq)})
        latents = torch.cat([self._latents(range(i, min(n, i + _CHUNK))) for i in range(0, n, _CHUNK)])
        standardise(copied["vq"], latents)
        return copied

    @torch.no_grad()
    def _latents(self, samples: Sequence[int]) -> Tensor:
        return self.net.vq.encode(self._images(self.train, samples)).latents.float()

    def _images(self, faces: PreparedFaces, samples: Sequence[int]) -> Tensor:
        return to_signed(faces.photos[np.asarray(samples)]).to(self.device)


def _put_state(folder: Path, state: dict | None) -> None:
    if state is None:
        return
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(folder / "state.pt", buffer.getvalue())

"""The two trainings of SCA-DM: denoiser with style encoder, and the first stage that they work in."""

import abc
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semfacediff import config
from semfacediff.parsing.checkpoint import write_weights
from semfacediff.seeding import derive_seed
from semfacediff.synthesis.checkpoint import write_synthesis
from semfacediff.synthesis.codebook import QuantisedAutoencoder, revive, standardise
from semfacediff.synthesis.first_stage_files import CARD, FirstStageCard
from semfacediff.synthesis.latents import PreparedFaces, from_signed, to_signed
from semfacediff.synthesis.layouts import one_hot
from semfacediff.synthesis.losses import Dropout, drawn, squared_errors
from semfacediff.synthesis.model import SCADM, SCADMOptions
from semfacediff.synthesis.prediction import noised, target
from semfacediff.synthesis.sampling import SamplingOptions, training_schedule
from semfacediff.tasks.synthesis.grids import generated_grid, save_grid

_STANDARDISED_ON = 256
"""Photos whose latents say how the latent space is scaled."""
_CHUNK = 16
_SHOWN = 6
"""Photos in the grids of a first stage."""


def placed(batch: Tensor, device: torch.device) -> Tensor:
    """``batch`` on the device; to CUDA from pinned memory, so that the copy goes on beside what is computed."""
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.to(device)


class Objective(abc.ABC):
    """What is trained, and on what loss.

    Args:
        net: the trained module, on ``device``; losses call it through the wrapped form that they are given.
        faces: of the parts ``train`` and ``val``.
        figures: folder of the pictures of a training.

    Attributes:
        averaged: names of children of ``net`` that the moving average covers; the others are taken as they are.
        named: what the sizes of the model and of the training are called in the configuration, for messages.
    """

    averaged: Sequence[str]
    named: str

    def __init__(
        self, net: nn.Module, faces: Mapping[str, PreparedFaces], seed: int, device: torch.device, figures: Path
    ):
        self.net, self.train, self.val = net, faces["train"], faces["val"]
        self.seed, self.device, self._figures = seed, device, figures

    @property
    def ids(self) -> Sequence[str]:
        """Of the training samples."""
        return self.train.ids

    @abc.abstractmethod
    def losses(self, net: nn.Module, samples: Sequence[int], epoch: int, step: int) -> Tensor:
        """float32 ``[n]``: loss of each of ``samples``, with a gradient; draws depend on (seed, epoch, id) alone."""

    @abc.abstractmethod
    def val_losses(self, samples: Sequence[int]) -> Tensor:
        """float32 ``[n]``: the same of validation samples, under ``net`` as it is."""

    @abc.abstractmethod
    def grid(self, file: Path) -> None:
        """Draw what ``net`` makes, as it is."""

    @abc.abstractmethod
    def write(self, folder: Path, facts: dict, for_use: bool) -> None:
        """Write ``net`` as it is into an empty folder, for use or for a training to be continued."""

    def before(self, step: int, samples: Sequence[int]) -> None:  # noqa: B027
        """What is done between steps, e.g. to a codebook. ``samples``: all of the coming batch; the same everywhere."""

    def validated(self, samples: Sequence[int]) -> Tensor:
        """:meth:`val_losses`, some samples at a time."""
        return torch.cat([self.val_losses(samples[i : i + _CHUNK]) for i in range(0, len(samples), _CHUNK)])

    def sampled(self, step: int) -> None:
        self.grid(self._figures / f"samples_{step:07d}.png")


class DiffusionObjective(Objective):
    """The noise in latents, or their velocity, given photo and label map; ``faces`` have latents."""

    named = "diffusion"
    net: SCADM

    def __init__(
        self,
        model: SCADM,
        settings: config.DiffusionConfig,
        faces: Mapping[str, PreparedFaces],
        seed: int,
        device: torch.device,
        figures: Path,
    ):
        super().__init__(model, faces, seed, device, figures)
        self.settings = settings
        self.averaged = ("unet", "style_encoder") if settings.ema_of == "all" else ("unet",)
        self.dropout = Dropout(settings.image_dropout, settings.null_dropout, settings.part_dropout)
        self.alphas = training_schedule().alphas_cumprod.to(device)
        model.unet.checkpointing = settings.gradient_checkpointing

    def losses(self, net: nn.Module, samples: Sequence[int], epoch: int, step: int) -> Tensor:
        return self._losses(net, self.train, samples, epoch)

    def val_losses(self, samples: Sequence[int]) -> Tensor:
        """With the dropout of the training, and draws that are the same at every validation."""
        return self._losses(self.net, self.val, samples, "validation")

    def _losses(self, net: nn.Module, faces: PreparedFaces, samples: Sequence[int], epoch: int | str) -> Tensor:
        if faces.latents is None:
            raise ValueError("expected faces with latents")
        chosen, options = np.asarray(samples), self.net.options
        keys = [(self.seed, epoch, faces.ids[i]) for i in samples]
        draws = drawn(keys, faces.latents.shape[1:], options.classes, self.dropout).to(self.device)
        images = placed(to_signed(faces.photos[chosen]), self.device)
        images[draws.image_dropped] = 0
        mask = placed(one_hot(torch.from_numpy(faces.labels[chosen]), options.classes), self.device)
        seen = mask * ~draws.part_dropped[:, :, None, None] if self.dropout.part else None
        latents = placed(torch.from_numpy(faces.latents[chosen]), self.device)
        dropped = draws.all_dropped if self.dropout.everything else None
        kept = self.alphas[draws.steps]
        predicted = net(noised(latents, draws.noise, kept), draws.steps, images, mask, seen, dropped)
        return squared_errors(predicted, target(latents, draws.noise, kept, options.prediction))

    def grid(self, file: Path) -> None:
        options = SamplingOptions(steps=self.settings.sample_steps, seed=self.seed)
        generated_grid(self.net, self.val, self.settings.sample_photos, options, file)

    def write(self, folder: Path, facts: dict, for_use: bool) -> None:
        write_synthesis(self.net, folder, self.train.label_space.name, facts)


class FirstStageObjective(Objective):
    """Reconstruction through a codebook."""

    named = "vq"
    averaged = ("vq",)

    def __init__(
        self,
        net: QuantisedAutoencoder,
        options: SCADMOptions,
        settings: config.VQConfig,
        faces: Mapping[str, PreparedFaces],
        seed: int,
        device: torch.device,
        figures: Path,
    ):
        super().__init__(net, faces, seed, device, figures)
        self.options, self.settings = options, settings
        self._vq: Any = net.vq  # diffusers' VQModel

    def losses(self, net: nn.Module, samples: Sequence[int], epoch: int, step: int) -> Tensor:
        return net(self._images(self.train, samples), step >= self.settings.unquantised_steps)

    def before(self, step: int, samples: Sequence[int]) -> None:
        """The codebook starts from the first latents that it is given, and dead codes move now and then."""
        since = step - self.settings.unquantised_steps
        if since < 0 or since % self.settings.revive_every_steps:
            return
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "codebook", step))
        revive(self._vq.quantize.embedding.weight, self._latents(samples), generator, all_of_them=since == 0)

    def val_losses(self, samples: Sequence[int]) -> Tensor:
        return self.net(self._images(self.val, samples), True)

    def grid(self, file: Path) -> None:
        photos = self.val.photos[:_SHOWN]
        with torch.inference_mode():
            made = from_signed(self._vq(to_signed(photos).to(self.device)).sample)
        save_grid([photos, made], file)

    def write(self, folder: Path, facts: dict, for_use: bool) -> None:
        """For use with a latent space of mean 0 and deviation 1; to be continued as it is."""
        write_weights(folder, (self._standardised() if for_use else self.net).state_dict())
        (folder / CARD).write_text(FirstStageCard.of(self.options, facts).text())

    def _standardised(self) -> nn.Module:
        """A copy of the autoencoder, as :class:`semfacediff.synthesis.first_stage.FirstStage` holds it."""
        n = min(_STANDARDISED_ON, len(self.train))
        copied = nn.ModuleDict({"vq": copy.deepcopy(self._vq)})
        latents = torch.cat([self._latents(range(i, min(n, i + _CHUNK))) for i in range(0, n, _CHUNK)])
        standardise(copied["vq"], latents)
        return copied

    @torch.no_grad()
    def _latents(self, samples: Sequence[int]) -> Tensor:
        return self._vq.encode(self._images(self.train, samples)).latents.float()

    def _images(self, faces: PreparedFaces, samples: Sequence[int]) -> Tensor:
        return placed(to_signed(faces.photos[np.asarray(samples)]), self.device)

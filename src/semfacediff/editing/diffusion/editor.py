"""The editor that repaints a region with a diffusion model."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.diffusion.memory import MemoryProfile, free_memory, ran_out_of_memory
from semfacediff.editing.diffusion.pipeline import SharedPipeline, accepted, chosen_dtype, latent_cell
from semfacediff.editing.diffusion.placing import Placed, pasted, placed, whole, zoom_box
from semfacediff.editing.diffusion.weights import PipelineFiles
from semfacediff.errors import UserError

NOTE_NEGATIVE_UNREAD = "this pipeline takes no negative prompt: the recorded one was ignored"
NOTE_RETRIED = "the VAE produced NaN in half precision; decoded again in float32"


@dataclass(frozen=True)
class InpaintOptions:
    """How a region is repainted; names and defaults as in ``conf/editor``.

    Attributes:
        scheduler: ``dpmsolver++``, ``ddim``, ``euler``, ``unipc``, or ``own`` (the checkpoint's).
        steps: of the whole schedule; ``strength`` x ``steps`` of them are taken.
        guidance: weight of the prompt against the negative one; up to 1 the negative one is not computed.
        strength: how far from the photo the region starts, in (0, 1]; 1 is pure noise.
        native_size: side in pixels of the square the model works at.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``.
        vae_dtype: ``float32``, or ``same``: half precision where ``dtype`` is, with a second try in float32.
        zoom: work on a crop around the region. zoom_context: see :func:`.placing.zoom_box`.
    """

    scheduler: str = "dpmsolver++"
    steps: int = 50
    guidance: float = 12.0
    strength: float = 0.9
    native_size: int = 1024
    dtype: str = "auto"
    vae_dtype: str = "float32"
    zoom: bool = False
    zoom_context: float = 0.5


def steps_taken(steps: int, strength: float) -> int:
    """How many of ``steps`` the model takes at ``strength``, as diffusers counts."""
    return min(int(steps * strength), steps)


class InpaintEditor(Editor):
    """Repaints regions with a pipeline of diffusers; the weights are loaded by the first edit.

    A photo is brought to the model's square (LANCZOS, aspect kept, edges repeated to fill it) and its edit back to the
    photo's size, so that photos of any sizes share a batch. Every request has its own generator on the CPU, seeded by
    it. On the CPU requests go through the model one by one: convolutions of another batch size round differently, and
    nothing is gained from batches there. On an accelerator a batch of another size may differ by such rounding.

    If the device is full, a batch is halved until it fits; :meth:`note` says so.

    Args:
        name: as recorded. files: the pipeline. options: see there. device: where to compute. memory: see there.
        shared: of an editor before this one, over the same files, precision, device and memory; else opened anew.

    Raises:
        UserError: on the first edit, the pipeline cannot be opened, or ``native_size`` is not one it can work at.
    """

    native_size: int
    batchable = True

    def __init__(
        self,
        name: str,
        files: PipelineFiles,
        options: InpaintOptions,
        device: torch.device,
        memory: MemoryProfile,
        shared: SharedPipeline | None = None,
    ):
        memory.check()
        self.name, self.native_size = name, options.native_size
        self.files, self.options, self.device, self.memory = files, options, device, memory
        self.dtype = chosen_dtype(options.dtype, device)
        self.shared = shared or SharedPipeline(files, self.dtype, device, memory, options.vae_dtype == "same")
        self.at_once: int | None = 1 if device.type == "cpu" else None
        """Requests in one call of the model; ``None`` = as many as are given."""
        self._full_at: int | None = None
        self._notes: dict[tuple[str, str], list[str]] = {}

    def facts(self) -> dict[str, Any]:
        """For the record: digest of the weights, and what beside the configuration determines the results."""
        numerics = {"dtype": str(self.dtype).removeprefix("torch."), **self.memory.numerics()}
        half = self.dtype != torch.float32
        return {"digest": self.files.digest(half), "numerics": numerics, "doubts": self.files.doubts}

    def tokenizers(self) -> list[Any]:
        """Read from the folder once, without the model."""
        return self.shared.tokenizers

    def reads_negatives(self) -> bool:
        """Guidance up to 1 leaves the negative pass out."""
        return self.options.guidance > 1

    def note(self, request: EditRequest) -> str | None:
        """What happened when this request was last edited."""
        return "; ".join(self._notes.get((request.sample_id, request.attribute), [])) or None

    def prepare(self) -> None:
        """Open the pipeline; edits after that fail for reasons of their own."""
        _ = self.pipe

    @cached_property
    def pipe(self) -> Any:
        """The pipeline, opened and settled on the device."""
        pipe = self.shared.scheduled(self.options.scheduler)
        if self.native_size % latent_cell(pipe):
            raise UserError(
                f"editor.native_size={self.native_size} is no multiple of {latent_cell(pipe)}, which "
                f"{type(pipe).__name__} works in; set another"
            )
        self._guard, self._prompts = self.shared.guard, self.shared.prompts(guided=self.options.guidance > 1)
        return pipe

    @torch.inference_mode()
    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """Repainted photos; where :attr:`InpaintOptions.zoom` is on, unchanged beyond the crop."""
        self.prepare()
        self._notes = {}
        edits: dict[int, Tensor] = {}
        for strength, rows in self._by_strength(requests).items():
            made = self._in_batches([requests[row] for row in rows], strength)
            edits |= dict(zip(rows, made, strict=True))
        return [edits[row] for row in range(len(requests))]

    @torch.inference_mode()
    def round_trip(self, request: EditRequest) -> Tensor:
        """The photo through the pipeline's autoencoder, without noise and without a step, as an edit is placed.

        Raises:
            UserError: the pipeline's autoencoder is not one of single photos (``AutoencoderKL``), or produced NaN.
        """
        self.prepare()
        self._notes, pipe, at = {}, self.pipe, self._placed(request)
        if type(pipe.vae).__name__ != "AutoencoderKL":
            raise UserError(
                f"the autoencoder of {type(pipe).__name__} is {type(pipe.vae).__name__}, expected AutoencoderKL; leave "
                f"out its round trip"
            )
        self._guard.begin(1)
        photo = pipe.image_processor.preprocess(at.photo, height=self.native_size, width=self.native_size)
        latents = pipe.vae.encode(photo.to(pipe._execution_device, self.dtype)).latent_dist.mode()
        decoded = pipe.vae.decode(latents, return_dict=False)[0]
        made = pipe.image_processor.postprocess(decoded.float(), output_type="pt").cpu()
        self._check([request], made, None)
        self._say([request] * bool(self._guard.retried), NOTE_RETRIED)
        return pasted(request.photo, made[0], at)

    def _by_strength(self, requests: list[EditRequest]) -> dict[float, list[int]]:
        """A call of the model has one strength: rows that share it."""
        groups: dict[float, list[int]] = {}
        for row, request in enumerate(requests):
            strength = self.options.strength if request.strength is None else request.strength
            if not 0 < strength <= 1 or steps_taken(self.options.steps, strength) < 1:
                raise UserError(
                    f"strength {strength} of {self.options.steps} steps leaves none to take; raise the strength (up to "
                    f"1) or editor.steps"
                )
            groups.setdefault(strength, []).append(row)
        return groups

    def _in_batches(self, requests: list[EditRequest], strength: float) -> Iterator[Tensor]:
        """Batches as large as fit; results in order."""
        start = 0
        while start < len(requests):
            batch = requests[start : start + (self.at_once or len(requests))]
            made = self._unless_full(batch, strength)
            if made is None:
                self.pipe.maybe_free_model_hooks()
                free_memory(self.device)
                self._full_at, self.at_once = self._full_at or len(batch), len(batch) // 2
                continue
            if self._full_at:
                self._say(batch, f"out of memory with {self._full_at} at once, made with up to {self.at_once}")
            yield from made
            start += len(batch)

    def _unless_full(self, batch: list[EditRequest], strength: float) -> list[Tensor] | None:
        """``None`` if the device is too small for the batch; returning lets go of what the exception holds."""
        try:
            return self._repainted(batch, strength)
        except Exception as e:
            if not ran_out_of_memory(e):
                raise
            if len(batch) > 1:
                return None
        raise UserError(
            f"out of memory with a single photo at {self.native_size} px; not tried yet: "
            f"{', '.join(self.memory.untried(self.dtype, self.device))}"
        )

    def _say(self, batch: list[EditRequest], words: str) -> None:
        for r in batch:
            self._notes.setdefault((r.sample_id, r.attribute), []).append(words)

    def _repainted(self, batch: list[EditRequest], strength: float) -> list[Tensor]:
        at = [self._placed(request) for request in batch]
        self._guard.begin(len(batch))
        output = self.pipe(
            **self._prompts.arguments(batch),
            image=[p.photo for p in at],
            mask_image=[p.mask for p in at],
            height=self.native_size,
            width=self.native_size,
            strength=strength,
            num_inference_steps=self.options.steps,
            guidance_scale=self.options.guidance,
            generator=[torch.Generator().manual_seed(request.seed) for request in batch],
            output_type="pt",
            **self._watched(batch, strength),
        )
        made = output.images.float().cpu()
        self._check(batch, made, getattr(output, "nsfw_content_detected", None))
        self._say([batch[row] for row in sorted(self._guard.retried)], NOTE_RETRIED)
        self._say([r for r in batch if r.negative_prompt and self._prompts.drops_negatives], NOTE_NEGATIVE_UNREAD)
        return [pasted(r.photo, m, p) for r, m, p in zip(batch, made, at, strict=True)]

    def _watched(self, batch: list[EditRequest], strength: float) -> dict[str, Any]:
        """What tells the requests of every step; pipelines that cannot be watched are not."""
        watching = [r.on_step for r in batch if r.on_step]
        if not watching or "callback_on_step_end" not in accepted(self.pipe):
            return {}
        steps = steps_taken(self.options.steps, strength)

        def after_step(_pipe: object, step: int, _timestep: object, tensors: dict) -> dict:
            for on_step in watching:
                on_step(step + 1, steps)
            return tensors

        return {"callback_on_step_end": after_step}

    def _placed(self, request: EditRequest) -> Placed:
        soft = request.inpaint_mask == "blend"
        mask = request.masks.blend if soft else request.masks.generation
        height, width = mask.shape[-2:]
        zoom = self.options.zoom
        box = zoom_box(mask[0].numpy() > 0.5, self.options.zoom_context) if zoom else whole(height, width)
        return placed(request.photo, mask, box, self.native_size, None if soft else latent_cell(self.pipe))

    def _check(self, batch: list[EditRequest], made: Tensor, flagged: list[bool] | None) -> None:
        """Reject all-black output."""
        for request, image, blanked in zip(batch, made, flagged or [False] * len(batch), strict=True):
            if not torch.isfinite(image).all():
                raise UserError(f"{request.sample_id}: the model produced NaN; set editor.dtype=bfloat16 or float32")
            if blanked:
                raise UserError(
                    f"{request.sample_id}: the pipeline's safety checker blanked the edit; change the prompt or seed, "
                    f"or set editor.safety_checker=false"
                )

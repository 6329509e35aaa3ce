"""The editor that repaints a region with a diffusion model."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from semfacediff import config
from semfacediff.editing.base import Editor, EditRequest, Place
from semfacediff.editing.diffusion.calling import call_of, settled
from semfacediff.editing.diffusion.memory import MemoryProfile, free_memory, ran_out_of_memory
from semfacediff.editing.diffusion.opening import opened_with
from semfacediff.editing.diffusion.pipeline import SharedPipeline, chosen_dtype, latent_cell
from semfacediff.editing.diffusion.placing import Placed, pasted, placed, whole, zoom_box
from semfacediff.editing.diffusion.weights import PipelineFiles
from semfacediff.errors import UserError

NOTE_NEGATIVE_UNREAD = "this pipeline reads no negative prompt: the recorded one was ignored"
NOTE_RETRIED = "the VAE produced NaN in half precision; decoded again in float32"


@dataclass(frozen=True)
class InpaintOptions:
    """How a region is repainted; names and defaults as in ``conf/editor``. ``None``: the pipeline's own.

    Attributes:
        scheduler: ``own`` (the checkpoint's) or a key of :data:`.pipeline.SCHEDULERS`.
        steps: of the whole schedule; ``strength`` x ``steps`` of them are taken.
        guidance: weight of the prompt, against the negative one where the pipeline has such a pass: up to 1 that is not
            computed. Reaches ``guidance_scale`` or ``true_cfg_scale``, whichever acts.
        strength: how far from the photo the region starts, in (0, 1]; 1 is pure noise.
        native_size: side in pixels of the square the model works at.
        true_cfg_scale: of a model that is distilled for guidance (FLUX.1-dev), the weight against the negative prompt.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``.
        vae_dtype: ``float32``, or ``same``: half precision where ``dtype`` is, with a second try in float32.
        zoom: work on a crop around the region. zoom_context: see :func:`.placing.zoom_box`.
    """

    scheduler: str = "dpmsolver++"
    steps: int | None = 50
    guidance: float | None = 12.0
    strength: float | None = 0.9
    native_size: int | None = 1024
    true_cfg_scale: float | None = None
    dtype: str = "auto"
    vae_dtype: str = "float32"
    zoom: bool = False
    zoom_context: float = 0.5


class InpaintEditor(Editor):
    """Repaints regions with a pipeline of diffusers; the weights are loaded by the first edit.

    A photo is brought to the model's square (LANCZOS, aspect kept, edges repeated to fill it) and its edit back to the
    photo's size, so that photos of any sizes share a batch. Every request has its own generator on the CPU, seeded by
    it. On the CPU requests go through the model one by one: convolutions of another batch size round differently, and
    nothing is gained from batches there. On an accelerator a batch of another size may differ by such rounding.

    If the device is full, a batch is halved until it fits; :meth:`note` says so.

    Args:
        name: as recorded. files: the pipeline. options: see there. device: where to compute. memory: see there.
        share: makes the pipeline, or finds that of an editor before this one, see :class:`.pipeline.SharedPipeline`.

    Raises:
        UserError: the pipeline is none for inpainting, or would ignore an option that is set. On the first edit, it
            cannot be opened, or ``native_size`` is not one it can work at.
    """

    native_size: int
    batchable = True
    masked = True
    of_options: ClassVar[type] = InpaintOptions

    @classmethod
    def opened(cls, settings: Any, place: Place) -> tuple["InpaintEditor", dict]:
        told = {k: v for k, v in settings.options.items() if k not in config.OF_PIPELINE}
        made = cls(options=cls.of_options(**told), **opened_with(settings, place))
        return made, {"name": settings.name, **made.facts()}

    def __init__(
        self,
        name: str,
        files: PipelineFiles,
        options: InpaintOptions,
        device: torch.device,
        memory: MemoryProfile,
        share: Callable[..., SharedPipeline] = SharedPipeline,
    ):
        memory.check()
        self.call = call_of(files, self.masked)
        self.options = settled(options, self.call)
        self.name, self.native_size = name, int(self.options.native_size or self.call.size)
        self.files, self.device, self.memory = files, device, memory
        self.dtype = chosen_dtype(options.dtype, device, "transformer" in files.parts)
        watch = options.vae_dtype == "same"
        self.shared = share(files, self.call.kind, self.dtype, device, memory, watch)
        self._guided = (self.options.guidance or 0) > 1
        self._asked = options
        self.at_once: int | None = 1 if device.type == "cpu" else None
        """Requests in one call of the model; ``None`` = as many as are given."""
        self._full_at: int | None = None
        self._notes: dict[tuple[str, str], list[str]] = {}

    def facts(self) -> dict[str, Any]:
        """For the record: digest of the weights, and what beside the configuration determines the results."""
        numerics = {"dtype": str(self.dtype).removeprefix("torch."), **self.memory.numerics()}
        asked, settled = asdict(self._asked), asdict(self.options)
        if own := {name: value for name, value in settled.items() if value != asked[name]}:
            numerics["pipeline_defaults"] = own
        half, call = self.dtype != torch.float32, self.call
        facts: dict[str, Any] = {"digest": self.files.digest(half), "numerics": numerics, "doubts": self.files.doubts}
        facts |= {"pipeline": call.kind, "maskless": not self.masked}
        if self.files.lora:
            facts["lora"] = self.files.lora.facts()
        if self._guided and not self.reads_negatives():
            way = "" if call.opposed_by is None else f" unless editor.{call.opposed_by} is over 1"
            facts["ignored"] = [f"negatives: {call.kind} reads no negative prompt{way}"]
        return facts

    def tokenizers(self) -> list[Any]:
        """Read from the folder once, without the model."""
        return self.shared.tokenizers

    def reads_negatives(self) -> bool:
        """Guidance up to 1 leaves the negative pass out."""
        if self.call.opposed_by is None:
            return False
        apart = self.call.opposed_by != self.call.guidance
        return (self.options.true_cfg_scale or 0) > 1 if apart else self._guided

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
        opposed_by = self.call.opposed_by if self.reads_negatives() else None
        self._guard, self._prompts = self.shared.guard, self.shared.prompts(self._guided, opposed_by)
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

    def _by_strength(self, requests: list[EditRequest]) -> dict[float | None, list[int]]:
        """A call of the model has one strength: rows that share it. ``None``: the pipeline takes none."""
        groups: dict[float | None, list[int]] = {}
        for row, request in enumerate(requests):
            strength = self.options.strength if request.strength is None else request.strength
            if strength is not None and not self.call.takes("strength"):
                raise UserError(f"strength {strength}: {self.call.kind} takes none; leave it out")
            if strength is not None and (not 0 < strength <= 1 or self._steps_taken(strength) < 1):
                raise UserError(
                    f"strength {strength} of {self.options.steps} steps leaves none to take; raise the strength (up to "
                    f"1) or editor.steps"
                )
            groups.setdefault(strength, []).append(row)
        return groups

    def _steps_taken(self, strength: float | None) -> int:
        """How many of ``steps`` the model takes at ``strength``, as diffusers counts."""
        steps = int(self.options.steps or 0)
        return steps if strength is None else min(int(steps * strength), steps)

    def _in_batches(self, requests: list[EditRequest], strength: float | None) -> Iterator[Tensor]:
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

    def _unless_full(self, batch: list[EditRequest], strength: float | None) -> list[Tensor] | None:
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

    def _repainted(self, batch: list[EditRequest], strength: float | None) -> list[Tensor]:
        at = [self._placed(request) for request in batch]
        self._guard.begin(len(batch))
        output = self.pipe(**self._prompts.arguments(batch), **self._told(batch, at, strength))
        made = torch.as_tensor(output.images).float().cpu()
        if tuple(made.shape[-2:]) != (self.native_size, self.native_size):
            height, width = made.shape[-2:]
            raise UserError(
                f"{self.call.kind} made {width}x{height} px of a photo of {self.native_size}x{self.native_size}; set "
                f"editor.native_size to a size that it works at"
            )
        self._check(batch, made, getattr(output, "nsfw_content_detected", None))
        self._say([batch[row] for row in sorted(self._guard.retried)], NOTE_RETRIED)
        unread = self._guided and not self.reads_negatives()
        self._say([r for r in batch if unread and r.negative_prompt], NOTE_NEGATIVE_UNREAD)
        return [pasted(r.photo, m, p) for r, m, p in zip(batch, made, at, strict=True)]

    def _told(self, batch: list[EditRequest], at: list[Placed], strength: float | None) -> dict[str, Any]:
        """Arguments of the pipeline's call beside the prompts."""
        call, options = self.call, self.options
        told: dict[str, Any] = {
            call.photo: [p.photo for p in at],
            **call.geometry(self.native_size),
            "num_inference_steps": options.steps,
            "generator": [torch.Generator().manual_seed(request.seed) for request in batch],
            "output_type": "pt",
        }
        if call.mask:
            told[call.mask] = [p.mask for p in at]
        if strength is not None:
            told["strength"] = strength
        if options.true_cfg_scale is not None:
            told["true_cfg_scale"] = options.true_cfg_scale
        if call.guidance and options.guidance is not None:
            told[call.guidance] = options.guidance
        return told | self._watched(batch, strength)

    def _watched(self, batch: list[EditRequest], strength: float | None) -> dict[str, Any]:
        """What tells the requests of every step; pipelines that cannot be watched are not."""
        watching = [r.on_step for r in batch if r.on_step]
        if not watching or not self.call.takes("callback_on_step_end"):
            return {}
        steps = self._steps_taken(strength)

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

"""Opens a pipeline from its folder: precision, scheduler, and what its call must take."""

from functools import cached_property
from typing import Any

import torch

from semfacediff.editing.diffusion.embeddings import PromptEmbeddings
from semfacediff.editing.diffusion.lora import add_lora
from semfacediff.editing.diffusion.memory import MemoryProfile, settle
from semfacediff.editing.diffusion.vae_guard import VaeGuard
from semfacediff.editing.diffusion.weights import PipelineFiles
from semfacediff.errors import UserError

SCHEDULERS: dict[str, tuple[str, dict[str, object]]] = {
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    # Without these two, DDIM clips latents as if they were pixels.
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    # Of models distilled to a few steps.
    "lcm": ("LCMScheduler", {}),
    "lightning": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
}
"""``editor.scheduler`` -> class in diffusers and what it is told beside the checkpoint's own noise schedule."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def chosen_dtype(name: str, device: torch.device, transformer: bool = False) -> torch.dtype:
    """``auto`` is half precision on an accelerator, which the public weights are made for, and float32 on the CPU.

    Args:
        transformer: whether the denoiser is one: those are made for bfloat16, and float16 overflows in some.
    """
    if name == "auto" and device.type != "cpu":
        return torch.bfloat16 if transformer else torch.float16
    if name == "auto":
        return torch.float32
    return DTYPES[name]


class SharedPipeline:
    """A pipeline that is opened and settled on its device at first use, for one editor after another.

    It holds what takes long to make and does not depend on strength, guidance, steps or scheduler.

    Args:
        kind: class of diffusers.
        watch: the VAE keeps the pipeline's precision and is watched, see :class:`.vae_guard.VaeGuard`.
    """

    def __init__(
        self,
        files: PipelineFiles,
        kind: str,
        dtype: torch.dtype,
        device: torch.device,
        memory: MemoryProfile,
        watch: bool,
    ):
        self._files, self._kind, self._dtype, self._device = files, kind, dtype, device
        self._memory, self._watch = memory, watch
        self._prompts: dict[tuple[bool, str | None], PromptEmbeddings] = {}

    @cached_property
    def tokenizers(self) -> list[Any]:
        """Read from the folder, without the model. Where a T5 reads the prompt, CLIP only adds a summary of it."""
        import transformers

        parts = sorted((p, kind) for p, kind in self._files.parts.items() if p.startswith("tokenizer"))
        parts = [(p, kind) for p, kind in parts if kind.startswith("T5")] or parts
        return [getattr(transformers, kind).from_pretrained(str(self._files.folder / p)) for p, kind in parts]

    @cached_property
    def _pipe(self) -> Any:
        pipe = open_pipeline(self._files, self._kind, self._dtype)
        self._own_scheduler = pipe.scheduler
        self.guard = VaeGuard(pipe.vae, self._watch)
        settle(pipe, self._memory, self._device)
        return pipe

    def scheduled(self, scheduler: str) -> Any:
        """The pipeline with the scheduler of that name, whichever it had before."""
        pipe = self._pipe
        pipe.scheduler = self._own_scheduler
        _set_scheduler(pipe, scheduler)
        return pipe

    def prompts(self, guided: bool, opposed_by: str | None) -> PromptEmbeddings:
        """Embeddings with or without those of the negative prompt; encoded once for all callers.

        Args:
            guided: whether guidance is on. opposed_by: key through which a negative prompt has a say, if it has one.
        """
        if (guided, opposed_by) not in self._prompts:
            self._prompts[guided, opposed_by] = PromptEmbeddings(self._pipe, guided, opposed_by)
        return self._prompts[guided, opposed_by]


def open_pipeline(files: PipelineFiles, kind: str, dtype: torch.dtype) -> Any:
    """The pipeline of a folder as the class ``kind``, on the CPU and with its LoRA; nothing is fetched.

    Raises:
        UserError: it cannot be opened, or the LoRA does not fit.
    """
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    sdxl = any(part == "text_encoder_2" for part in files.parts) and "unet" in files.parts
    # A watermark, which SDXL would add if a certain package happens to be installed, is a change of the photo.
    options: dict[str, bool | None] = {"add_watermarker": False} if sdxl else {}
    options |= dict.fromkeys(files.left_out)
    if "safety_checker" in files.left_out:
        options["requires_safety_checker"] = False
    try:
        pipe = getattr(diffusers, kind).from_pretrained(
            str(files.folder),
            dtype=dtype,
            variant=files.variant(dtype != torch.float32),
            local_files_only=True,
            **options,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as e:  # the libraries raise many kinds, for damaged files and unknown classes
        reason = " ".join(f"{type(e).__name__}: {e}".split())[:200]
        raise UserError(f"{files.folder}: the pipeline cannot be opened ({reason}); copy it again") from e
    if files.lora:
        add_lora(pipe, files.lora)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latent_cell(pipe: Any) -> int:
    """Pixels along one side of what the model sees as one value; photos have a multiple of it."""
    return pipe.image_processor.config.vae_scale_factor


def _set_scheduler(pipe: Any, scheduler: str) -> None:
    import diffusers

    if scheduler == "own":
        return
    if "FlowMatch" in type(pipe.scheduler).__name__:
        raise UserError(
            f"editor.scheduler={scheduler} is for models of noise, this pipeline's is one of flows "
            f"({type(pipe.scheduler).__name__}); set editor.scheduler=own"
        )
    kind, told = SCHEDULERS[scheduler]
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config, **told)

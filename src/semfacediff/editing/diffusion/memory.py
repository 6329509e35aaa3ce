"""What a pipeline may use of the machine, and what to do when it is too much."""

from dataclasses import dataclass
from typing import Any

import torch

from semfacediff.errors import UserError

TILE_PX = 512
"""Side of the VAE's tiles; those of SDXL's own configuration are as large as its photos, and save nothing."""
_SAID_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


@dataclass(frozen=True)
class MemoryProfile:
    """Switches of ``runtime.diffusion``; all off is the plain way.

    Attributes:
        attention_slicing: attention in slices; slower, and larger than torch's own fused attention where that exists.
        vae_slicing: the VAE decodes one photo at a time.
        vae_tiling: and each photo in overlapping tiles; changes results slightly.
        offload: ``model`` keeps each part in main memory while another one works; needs an accelerator.
        quantise: ``int8`` stores the denoiser's linear layers at 8 bits (torchao); changes results.
        channels_last: memory layout of convolutions; only on an accelerator.
        compile: ``torch.compile`` of the denoiser, a minute or two at the first edit; only on an accelerator.
    """

    attention_slicing: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False
    offload: str = "none"
    quantise: str = "none"
    channels_last: bool = False
    compile: bool = False

    def numerics(self) -> dict[str, Any]:
        """The switches that change results."""
        return {"vae_tiling": self.vae_tiling, "quantise": self.quantise}

    def untried(self, dtype: torch.dtype, device: torch.device) -> list[str]:
        """Settings that need less memory than these, the least harmful first; the last one always helps.

        Args:
            dtype: of the denoiser. device: where it works; on the CPU only what has an effect there.
        """
        accelerated, settings = device.type != "cpu", []
        if accelerated and dtype == torch.float32:
            settings.append("editor.dtype=auto")
        if accelerated and not (self.vae_slicing and self.vae_tiling and self.offload == "model"):
            settings.append("runtime=low_memory")
        elif not self.vae_tiling:
            settings.append("runtime.diffusion.vae_tiling=true")
        if self.quantise == "none":
            settings.append("runtime.diffusion.quantise=int8")
        return [*settings, "a smaller editor.native_size"]

    def check(self) -> None:
        """Refuse a switch whose library is missing, before anything is loaded."""
        if self.quantise == "int8":
            _int8()


def settle(pipe: Any, profile: MemoryProfile, device: torch.device) -> None:
    """Set the switches and bring the pipeline to ``device``.

    ``offload``, ``compile`` and ``channels_last`` do nothing on the CPU: there is nothing to offload from, no compiler
    to be relied on, and another memory layout rounds differently, so that a profile would change results.
    """
    denoiser, on_cpu = denoiser_of(pipe), device.type == "cpu"
    if profile.quantise == "int8":
        quantize, how = _int8()
        quantize(denoiser, how)
    if profile.channels_last and not on_cpu:
        denoiser.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    if profile.attention_slicing:
        pipe.enable_attention_slicing()
    if profile.vae_slicing:
        pipe.vae.enable_slicing()
    if profile.vae_tiling:
        _tile(pipe.vae)
    if profile.offload == "model" and not on_cpu:
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.to(device)
    if profile.compile and not on_cpu:
        denoiser.compile()


def _tile(vae: Any) -> None:
    vae.enable_tiling()
    if getattr(vae, "tile_sample_min_size", 0) > TILE_PX:
        vae.tile_latent_min_size = vae.tile_latent_min_size * TILE_PX // vae.tile_sample_min_size
        vae.tile_sample_min_size = TILE_PX


def denoiser_of(pipe: Any) -> torch.nn.Module:
    """The network that removes the noise, whatever the pipeline calls it."""
    return pipe.unet if getattr(pipe, "unet", None) is not None else pipe.transformer


def ran_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` is how this device says that it is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Hand cached blocks back, so that a smaller batch finds room in one piece."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()


def _int8():
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as e:
        raise UserError(
            "runtime.diffusion.quantise=int8 needs the package torchao; install it (pip install torchao), or set "
            "runtime.diffusion.quantise=none"
        ) from e
    return quantize_, Int8WeightOnlyConfig()

"""Text-guided editing with pipelines of diffusers: inpainting, and models that take instructions.

Importing this package imports neither diffusers nor transformers; both take seconds and are loaded with the weights.
"""

from semfacediff.editing.diffusion.editor import InpaintEditor, InpaintOptions
from semfacediff.editing.diffusion.instruct import InstructEditor, InstructOptions
from semfacediff.editing.diffusion.memory import MemoryProfile
from semfacediff.editing.diffusion.weights import PUBLIC_PIPELINES, PipelineFiles, find_pipeline

__all__ = [
    "PUBLIC_PIPELINES",
    "InpaintEditor",
    "InpaintOptions",
    "InstructEditor",
    "InstructOptions",
    "MemoryProfile",
    "PipelineFiles",
    "find_pipeline",
]

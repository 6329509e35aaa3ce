"""Text-guided inpainting with pipelines of diffusers.

Importing this package imports neither diffusers nor transformers; both take seconds and are loaded with the weights.
"""

from semfacediff.editing.diffusion.editor import InpaintEditor, InpaintOptions
from semfacediff.editing.diffusion.memory import MemoryProfile
from semfacediff.editing.diffusion.weights import PUBLIC_PIPELINES, PipelineFiles, find_pipeline

__all__ = ["PUBLIC_PIPELINES", "InpaintEditor", "InpaintOptions", "MemoryProfile", "PipelineFiles", "find_pipeline"]

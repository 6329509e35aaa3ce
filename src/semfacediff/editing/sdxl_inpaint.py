"""``editor=sdxl_inpaint``: inpainting with SDXL, see :mod:`semfacediff.editing.diffusion`."""

from semfacediff.editing.diffusion import InpaintEditor

EDITOR = InpaintEditor

"""``editor=sd_inpaint``: inpainting with Stable Diffusion 1.5, see :mod:`semfacediff.editing.diffusion`."""

from semfacediff.editing.diffusion import InpaintEditor

EDITOR = InpaintEditor

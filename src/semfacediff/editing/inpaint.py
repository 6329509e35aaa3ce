"""``editor=inpaint``: any inpainting pipeline of diffusers, see :mod:`semfacediff.editing.diffusion`."""

from semfacediff.editing.diffusion import InpaintEditor

EDITOR = InpaintEditor

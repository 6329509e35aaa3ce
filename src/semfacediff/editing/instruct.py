"""``editor=instruct``: models that are told what to change and get no mask; see :mod:`.diffusion`."""

from semfacediff.editing.diffusion import InstructEditor

EDITOR = InstructEditor

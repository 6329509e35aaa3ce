"""``editor=sca_dm``, see :mod:`semfacediff.editing.reference`."""

from semfacediff.editing.reference import ReferenceEditor

EDITOR = ReferenceEditor

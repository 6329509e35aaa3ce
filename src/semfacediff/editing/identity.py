"""The editor that changes nothing: the upper bound of preservation and the lower bound of obedience."""

from torch import Tensor

from semfacediff.editing.base import Editor, EditRequest


class Identity(Editor):
    """Returns every photo as it is."""

    name = "identity"
    native_size = None
    batchable = True

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """Copies of the photos, float32 ``[3, H, W]`` in [0, 1]."""
        return [request.photo.clone() for request in requests]


EDITOR = Identity

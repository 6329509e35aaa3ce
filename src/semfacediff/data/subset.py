"""Some samples of a data set."""

from collections.abc import Sequence

from semfacediff.types import Faces, FaceSample


class Subset:
    """``faces`` restricted to ``indices``, in that order; same interface."""

    def __init__(self, faces: Faces, indices: Sequence[int]):
        self.faces, self.indices = faces, list(indices)
        self.label_space = faces.label_space
        self.ids = [faces.ids[i] for i in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> FaceSample:
        return self.faces[self.indices[i]]

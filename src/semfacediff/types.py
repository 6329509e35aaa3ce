"""What travels between the stages. Frozen; arrays inside are never written to after construction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from semfacediff.labels import LabelSpace


@dataclass(frozen=True)
class FaceSample:
    """One photo as it lies in a data set.

    Attributes:
        id: the file's stem; unique within a data set.
        photo: uint8 ``[H, W, 3]`` RGB.
        labels: uint8 ``[H, W]`` label map, or ``None`` where the data set has no masks.
        attributes: annotations that came with the photo (toy faces: what was drawn), for stratified reports.
        landmarks: float32 ``[5, 2]``, (x, y) in px of the photo: left eye, right eye, tip of the nose, left and right
            corner of the mouth (left in the photo); ``None`` where the data set has none.
    """

    id: str
    photo: np.ndarray
    labels: np.ndarray | None = None
    attributes: dict[str, str | float | bool] = field(default_factory=dict)
    landmarks: np.ndarray | None = None

    @property
    def label_map(self) -> np.ndarray:
        """``labels`` of a data set that was opened with label maps; a :class:`ValueError` if there is none."""
        if self.labels is None:
            raise ValueError(f"sample '{self.id}' has no label map")
        return self.labels


class Faces(Protocol):
    """A map-style data set: ``faces[i]`` is read when it is asked for."""

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids, in order."""

    @property
    def label_space(self) -> LabelSpace:
        """The space of the label maps."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, i: int) -> FaceSample:
        """Sample ``i``; a :class:`UserError` names the file that cannot be read."""


@dataclass(frozen=True)
class RegionMasks:
    """The three masks of one edit, never to be confused.

    Attributes:
        semantic: float32 ``[1, H, W]`` in {0, 1}: the union of the attribute's classes, as parsed.
        generation: float32 ``[1, H, W]`` in {0, 1}: what the editor may repaint (eroded, dilated).
        blend: float32 ``[1, H, W]`` in [0, 1], multiples of 1/255: what the composite uses (feathered).
        coverage: share of the pixels whose blend mask exceeds one half, 0..1.
    """

    semantic: torch.Tensor
    generation: torch.Tensor
    blend: torch.Tensor
    coverage: float


def to_tensor(photo: np.ndarray) -> torch.Tensor:
    """float32 ``[3, H, W]`` in [0, 1] from a uint8 ``[H, W, 3]`` photo."""
    return torch.from_numpy(photo.astype(np.float32)).permute(2, 0, 1).contiguous().div_(255)


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """uint8 ``[H, W, 3]`` from a float ``[3, H, W]`` image in [0, 1]; rounds to nearest, exact for 8-bit sources."""
    return image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def check_image(image: torch.Tensor, name: str = "image") -> None:
    """Refuse anything but float32 ``[N, 3, H, W]`` in [0, 1].

    Raises:
        ValueError: wrong rank, channel count, dtype or range, or values that are not finite.
    """
    if image.ndim != 4 or image.shape[1] != 3 or image.dtype != torch.float32:
        raise ValueError(f"{name}: expected float32 [N,3,H,W], got {image.dtype} {list(image.shape)}")
    low, high = (t.item() for t in torch.aminmax(image)) if image.numel() else (0.0, 0.0)
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"{name}: expected values in [0,1], got {low:.4g}..{high:.4g}; images in [-1,1] need (x+1)/2")

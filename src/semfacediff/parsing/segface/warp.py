"""SegFace's RoI tanh warp for LaPa (after Lin et al. 2019): the face fills a square, what is around it is squeezed in.

Points are (x, y) in px of the photo. A point is moved by the similarity that brings five landmarks to a template, and
what then lies outside the middle of the square is drawn in by tanh, so that the square's edges are infinitely far away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from semfacediff.errors import UserError

LANDMARKS = 5
"""Left eye, right eye, tip of the nose, left and right corner of the mouth; left in the photo."""
_TEMPLATE = ((196, 226), (316, 226), (256, 286), (220, 360.4), (292, 360.4))
_TEMPLATE_HALF_SIDE = 256
TANH_SHARE = 0.8
"""Of half a side: from the edge inwards, the part in which tanh acts."""
_TANH_LIMIT = 0.999


def similarity(landmarks: Tensor, side: int) -> Tensor:
    """float32 [N,3,3]: the least-squares rotation, scaling and shift of float32 [N,5,2] to the template in a square."""
    template = torch.tensor(_TEMPLATE, dtype=landmarks.dtype, device=landmarks.device) / _TEMPLATE_HALF_SIDE
    to = template * (side - 1) / 2
    to_mean, from_mean = to.mean(0), landmarks.mean(1)
    to, at = to - to_mean, landmarks - from_mean[:, None]
    spread = at.square().sum((1, 2))
    a = (to * at).sum((1, 2)) / spread
    b = (to[:, 0] * at[..., 1] - to[:, 1] * at[..., 0]).sum(1) / spread
    dx = to_mean[0] - a * from_mean[:, 0] - b * from_mean[:, 1]
    dy = to_mean[1] + b * from_mean[:, 0] - a * from_mean[:, 1]
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, dx, -b, a, dy, zero, zero, one], dim=1).view(-1, 3, 3)


@dataclass(frozen=True)
class TanhWarp:
    """Between photos of ``size`` (height, width) and squares of ``side`` px.

    Attributes:
        matrix: float32 [N,3,3], of :func:`similarity`.
        aligned: the centre of pixel i is at i + 0.5 in the resampling too. ``False``: at i, as published, which shifts
            by half a pixel there and by as much on the way back.
    """

    matrix: Tensor
    size: tuple[int, int]
    side: int
    aligned: bool = False

    @classmethod
    def of(cls, landmarks: Tensor, size: Sequence[int], aligned: bool = False) -> "TanhWarp":
        """For landmarks [N,5,2] in px of photos of ``size``; the square's side is the longer one's.

        Raises:
            UserError: not five points a photo, or all in one place.
        """
        if landmarks.ndim != 3 or tuple(landmarks.shape[1:]) != (LANDMARKS, 2):
            raise UserError(
                f"segface: expected landmarks [N, {LANDMARKS}, 2] (two eyes, nose, two corners of the mouth), got "
                f"{list(landmarks.shape)}; leave them out where a photo has none"
            )
        landmarks = landmarks.float()
        if (landmarks == landmarks[:, :1]).all(-1).all(-1).any():
            raise UserError(
                "segface: expected five different landmarks, got a photo with all in one place; leave them out"
            )
        height, width = size
        side = max(size)
        return cls(similarity(landmarks, side), (height, width), side, aligned)

    def forward_points(self, points: Tensor) -> Tensor:
        """[N,P,2] in the square of points [P,2] or [N,P,2] in the photo."""
        p = _moved(points, self.matrix) / self.side * 2 - 1
        inner = 1 - TANH_SHARE
        beyond = ((p.abs() - inner) / TANH_SHARE).tanh() * TANH_SHARE + inner
        return (torch.where(p.abs() > inner, p.sign() * beyond, p) + 1) / 2 * self.side

    def inverse_points(self, points: Tensor) -> Tensor:
        """[N,P,2] in the photo of points [P,2] in the square; near the square's edges, at a finite distance."""
        p = points / self.side * 2 - 1
        inner = 1 - TANH_SHARE
        drawn_in = ((p.abs() - inner) / TANH_SHARE).clamp(-_TANH_LIMIT, _TANH_LIMIT)
        p = torch.where(p.abs() > inner, p.sign() * (drawn_in.atanh() * TANH_SHARE + inner), p)
        return _moved((p + 1) / 2 * self.side, torch.linalg.inv(self.matrix))

    def grid(self) -> Tensor:
        """float32 [N,side,side,2]: where each pixel of the square comes from, as ``grid_sample`` wants it."""
        height, width = self.size
        return self._normalised(self.inverse_points(self._pixels(self.side, self.side)), (width, height)).unflatten(
            1, (self.side, self.side)
        )

    def inverse_grid(self) -> Tensor:
        """float32 [N,height,width,2]: where each pixel of the photo is in the square."""
        return self._normalised(self.forward_points(self._pixels(*self.size)), (self.side, self.side)).unflatten(
            1, self.size
        )

    def into_square(self, photos: Tensor) -> Tensor:
        """[N,C,side,side] of [N,C,*size]; zero where there is no photo."""
        return _sampled(photos, self.grid())

    def back(self, logits: Tensor) -> Tensor:
        """[N,C,*size] of [N,C,side,side]; towards the square's edges, beyond which all is zero, logits fade."""
        return _sampled(logits, self.inverse_grid())

    def _pixels(self, height: int, width: int) -> Tensor:
        """float32 [height * width, 2]: (x, y) of pixels, row by row."""
        y, x = (torch.arange(n, device=self.matrix.device, dtype=self.matrix.dtype) for n in (height, width))
        y, x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([x, y], dim=-1).flatten(0, 1)

    def _normalised(self, points: Tensor, size_xy: tuple[int, int]) -> Tensor:
        half = 0.5 if self.aligned else 0.0
        return (points + half) / torch.tensor(size_xy, device=points.device, dtype=points.dtype) * 2 - 1


def _moved(points: Tensor, matrix: Tensor) -> Tensor:
    return points @ matrix[:, :2, :2].transpose(1, 2) + matrix[:, None, :2, 2]


def _sampled(x: Tensor, grid: Tensor) -> Tensor:
    # In half precision a place in a large photo would be off by pixels.
    sampled = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.to(x.dtype)

"""Features of photos that differ from one another only in parts, computed where they can differ.

A pixel reaches a bounded neighbourhood of each layer's output: what lies beyond the reach of the changed pixels is that
of the other photo. The numbers are those of a pass over the whole photo, up to the rounding of its convolutions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

Box = tuple[slice, slice]
"""Rows and columns."""
Layer = nn.Conv2d | nn.MaxPool2d

_WORTH_IT = 0.6
"""Share of the photo above which a pass over all of it is as quick."""


@dataclass(frozen=True)
class Features:
    """Of one photo, or of some of one size.

    Attributes:
        photo: float32 ``[N, 3, H, W]``, as the first layer takes it.
        outputs: float32 ``[N, C, h, w]`` of every layer, rectified where a rectifier follows.
        changed: where each output may differ from that of ``other``, the features that these were derived from; all of
            it if there are none.
    """

    photo: Tensor
    outputs: list[Tensor]
    changed: list[Box]
    other: "Features | None" = None


class Trunk:
    """A row of convolutions, poolings and rectifiers.

    Args:
        layers: in their order; kernels, strides and paddings are square, a rectifier follows a convolution.
    """

    def __init__(self, layers: Sequence[Layer | nn.ReLU]):
        self.layers = [layer for layer in layers if not isinstance(layer, nn.ReLU)]
        following = zip(layers, [*layers[1:], None], strict=True)
        self.rectified = [isinstance(then, nn.ReLU) for layer, then in following if not isinstance(layer, nn.ReLU)]

    def features(self, photo: Tensor, like: Features | None = None) -> Features:
        """Of ``photo``; ``like``: of one that it may have much in common with."""
        if like is None or not is_part(differs := (photo != like.photo).any(1)[0]):
            return self._whole(photo)
        return self._patched(photo, like, box_of(differs))

    def _whole(self, photo: Tensor) -> Features:
        x, outputs = photo, []
        for layer, rectified in zip(self.layers, self.rectified, strict=True):
            x = layer(x)
            x = x.relu_() if rectified else x
            outputs.append(x)
        return Features(photo, outputs, [(slice(0, y.shape[2]), slice(0, y.shape[3])) for y in outputs])

    def _patched(self, photo: Tensor, like: Features, box: Box) -> Features:
        x, outputs, boxes = photo, [], []
        for layer, rectified, base in zip(self.layers, self.rectified, like.outputs, strict=True):
            reached, crop = _reach(layer, x, box, base.shape[2:])
            x, box = base, reached
            if _holds(reached):
                patch = _without_padding(layer, crop)
                x = base.clone()
                x[(..., *reached)] = patch.relu_() if rectified else patch
            outputs.append(x)
            boxes.append(reached)
        return Features(photo, outputs, boxes, like)


def box_of(region: Tensor) -> Box:
    """The smallest box that holds a bool ``[H, W]`` region; empty if that is."""
    rows, columns = (_span(region.any(axis).nonzero()) for axis in (1, 0))
    return rows, columns


def is_part(region: Tensor) -> bool:
    """Whether a bool ``[H, W]`` region is small enough for a pass over it alone to be quicker than one over all."""
    rows, columns = box_of(region)
    return (rows.stop - rows.start) * (columns.stop - columns.start) <= _WORTH_IT * region.numel()


def _span(places: Tensor) -> slice:
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _holds(box: Box) -> bool:
    return all(span.start < span.stop for span in box)


def _reach(layer: Layer, x: Tensor, box: Box, size: Sequence[int]) -> tuple[Box, Tensor]:
    """(where in an output of ``size`` the changed ``box`` of the input is felt, the input that is needed there)."""
    kernel, stride, padding = (_square(getattr(layer, name)) for name in ("kernel_size", "stride", "padding"))
    reached, needed = [], []
    beyond: list[int] = []
    for span, length, given in zip(box, size, x.shape[2:], strict=True):
        if span.start >= span.stop:
            return (slice(0, 0), slice(0, 0)), x[..., :0, :0]
        first = max(0, -((kernel - 1 - padding - span.start) // stride))
        last = min(length - 1, (span.stop - 1 + padding) // stride)
        start, stop = first * stride - padding, last * stride - padding + kernel
        reached.append(slice(first, max(first, last + 1)))
        needed.append(slice(max(start, 0), max(0, min(stop, given))))
        beyond = [max(-start, 0), max(stop - given, 0), *beyond]  # torch names the last axis first
    (rows, columns), (needed_rows, needed_columns) = reached, needed
    return (rows, columns), nn.functional.pad(x[..., needed_rows, needed_columns], beyond)


def _without_padding(layer: Layer, x: Tensor) -> Tensor:
    if isinstance(layer, nn.MaxPool2d):
        return nn.functional.max_pool2d(x, layer.kernel_size, layer.stride)
    return nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride)


def _square(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[0]

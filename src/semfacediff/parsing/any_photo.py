"""A photo of any size and shape through a trained parser, with how sure the parser is."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semfacediff.data.square import to_square
from semfacediff.parsing.predict import ModelParser
from semfacediff.types import to_tensor

_STRIP_VALUES = 16_000_000  # 64 MB of logits at a time: a photo of 100 megapixels must not need 8 GB


@dataclass(frozen=True)
class ParsedPhoto:
    """What a parser says of one photo.

    Attributes:
        labels: uint8 ``[H, W]`` in the parser's label space, at the photo's own size.
        pixels: int64 ``[C]``: pixels of each class.
        confidence: float64 ``[C]`` in (0, 1]: mean, over the pixels of a class, of the largest softmax; NaN where there
            are none.
        overall: the same mean over all pixels.
    """

    labels: np.ndarray
    pixels: np.ndarray
    confidence: np.ndarray
    overall: float


@torch.inference_mode()
def parse_any(parser: ModelParser, photo: np.ndarray) -> ParsedPhoto:
    """Parse a photo (uint8 ``[H, W, 3]``): into a square with its aspect kept, through the network, and back.

    Logits are cut out of the square and brought to the photo's size bilinearly; argmax and softmax come after that.
    """
    square, place = to_square(photo, parser.card.input_size)
    logits = parser.logits(to_tensor(square)[None])[0][:, *place.box].float().cpu()
    labels = np.empty(photo.shape[:2], np.uint8)
    pixels, sure = torch.zeros(len(logits), dtype=torch.int64), torch.zeros(len(logits), dtype=torch.float64)
    for rows, strip in _enlarged(logits, *photo.shape[:2]):
        highest, found = strip.max(0)
        # The largest softmax is exp(0) over the sum of exp(logit - largest logit).
        probability = 1 / (strip - highest).exp_().sum(0, dtype=torch.float64)
        labels[rows] = found.numpy()
        pixels += torch.bincount(found.flatten(), minlength=len(logits))
        sure += torch.bincount(found.flatten(), weights=probability.flatten(), minlength=len(logits))
    return ParsedPhoto(labels, pixels.numpy(), (sure / pixels).numpy(), float(sure.sum() / pixels.sum()))


def _enlarged(logits: Tensor, height: int, width: int) -> Iterator[tuple[slice, Tensor]]:
    """(rows, strip ``[C, k, width]``) of bilinear, ``align_corners=False`` interpolation to ``[C, height, width]``."""
    step = max(1, _STRIP_VALUES // (len(logits) * width))
    last = logits.shape[1] - 1
    for start in range(0, height, step):
        rows = torch.arange(start, min(start + step, height), dtype=torch.float32)
        source = ((rows + 0.5) * (logits.shape[1] / height) - 0.5).clamp(0, last)
        above = source.floor().long()
        share = (source - above)[:, None]
        mixed = logits[:, above] * (1 - share) + logits[:, (above + 1).clamp(max=last)] * share
        size = (len(rows), width)
        yield slice(start, start + len(rows)), F.interpolate(mixed[None], size, mode="bilinear", align_corners=False)[0]

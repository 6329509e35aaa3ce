"""The recipes by name. Each draws its parameters from the generator that it is given, and from nothing else.

``flip``, ``affine`` and ``ce7454`` move photo and labels with torchvision's transforms, on its image and mask tensors;
``standard`` and ``strong`` with OpenCV, three times as fast on a processor.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import Image, Mask

from semfacediff.data.augment.colour import gamma_curve, mild, noisy, recoloured
from semfacediff.data.augment.geometry import flip, similarity, warped
from semfacediff.data.augment.jitter import JITTER, blurred
from semfacediff.labels import LabelSpace

NOISE_SD = 0.03


def tv_tensors(photo: np.ndarray, labels: np.ndarray) -> tuple[Image, Mask]:
    """uint8 ``[3, S, S]`` and ``[1, S, S]`` as torchvision knows them; copies."""
    return Image(torch.from_numpy(photo.transpose(2, 0, 1).copy())), Mask(torch.from_numpy(labels[None].copy()))


def arrays(photo: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Back from :func:`tv_tensors`; the memory is shared."""
    return photo.permute(1, 2, 0).numpy(), labels[0].numpy()


def none(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Nothing."""
    return photo, labels


def flipped(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left to right with p 0.5; left and right parts then change names."""
    if rng.random() >= 0.5:
        return photo, labels
    image, mask = (F.horizontal_flip(x) for x in tv_tensors(photo, labels))
    return arrays(image, torch.from_numpy(space.mirrored.astype(np.uint8))[mask.long()])


def affine(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate +-10 degrees, scale 0.9..1.1, shift +-5 %, shear +-5 degrees each way; no flip.

    Photo bilinear, labels nearest. What moves in from outside the frame is black, labelled 0, the background.
    """
    shift_px = rng.uniform(-0.05, 0.05, 2) * photo.shape[0]
    moved = {
        "angle": rng.uniform(-10, 10),
        "translate": shift_px.round().astype(int).tolist(),
        "scale": rng.uniform(0.9, 1.1),
        "shear": rng.uniform(-5, 5, 2).tolist(),
        "interpolation": InterpolationMode.BILINEAR,  # of the photo; a mask's is always nearest
    }
    return arrays(*(F.affine(x, **moved) for x in tv_tensors(photo, labels)))


def standard(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Flip (p 0.5), zoom 0.8..1.25, rotate +-12 degrees, shift +-6 %, then brightness, contrast and saturation.

    What moves in from outside the frame is its mirror image (photo and labels alike).

    Args:
        photo: uint8 ``[S, S, 3]``. labels: uint8 ``[S, S]`` in ``space``. Both come back at the same size.
    """
    if rng.random() < 0.5:
        photo, labels = flip(photo, labels, space)
    side = photo.shape[0]
    angle_deg, zoom = rng.uniform(-12, 12), np.exp(rng.uniform(-0.22, 0.22))
    matrix = similarity(side, angle_deg, zoom, rng.uniform(-0.06, 0.06, 2) * side)
    photo, labels = warped(photo, labels, matrix, cv2.BORDER_REFLECT_101)
    return mild(photo, rng), labels


def strong(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For long trainings from scratch on few photos; cheaper than ``standard``.

    Flip (p 0.5); zoom 0.6..1.6 log-uniform, rotate +-15 degrees, shift +-10 %; saturation 0.6..1.4 or, with p 0.08,
    grey; contrast and brightness 0.7..1.3; tint +-10 % a channel; with p 0.3 gamma 0.7..1.4; with p 0.15 blur; with
    p 0.15 noise of up to 8 levels. Outside the frame lies one random colour labelled background: at zoom 0.6 a mirror
    image would put a second mouth, upside down, under the chin.

    Args:
        photo: uint8 ``[S, S, 3]``. labels: uint8 ``[S, S]`` in ``space``. Both come back at the same size.
    """
    if rng.random() < 0.5:
        photo, labels = flip(photo, labels, space)
    side = photo.shape[0]
    angle_deg, zoom = rng.uniform(-15, 15), np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    matrix = similarity(side, angle_deg, zoom, rng.uniform(-0.1, 0.1, 2) * side)
    photo, labels = warped(photo, labels, matrix, cv2.BORDER_CONSTANT, tuple(rng.uniform(0, 255, 3)))
    saturation = 0.0 if rng.random() < 0.08 else rng.uniform(0.6, 1.4)
    contrast, brightness = rng.uniform(0.7, 1.3, 2)
    photo = recoloured(photo, saturation, contrast, brightness * rng.uniform(0.9, 1.1, 3))
    if rng.random() < 0.3:
        photo = gamma_curve(photo, np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
    if rng.random() < 0.15:  # up to what a photo of half the resolution would show
        photo = cv2.GaussianBlur(photo, (0, 0), rng.uniform(0.3, 1.2) * max(side / 256, 0.5))
    if rng.random() < 0.15:
        photo = noisy(photo, rng.uniform(1, 8), rng)
    return photo, labels


class Sequence(NamedTuple):
    """What the CE7454 report's sequence does to one photo.

    Attributes:
        zoomed_px: side to which photo and labels are resized before the middle is cropped.
        amounts: factors of brightness, contrast and saturation, and turns of hue.
        order: 0..3, in which order the four come.
        blur: whether there is a 3x3 Gaussian blur, sigma 0.8.
    """

    zoomed_px: int
    amounts: tuple[float, float, float, float]
    order: tuple[int, int, int, int]
    blur: bool

    @classmethod
    def drawn(cls, side: int, rng: np.random.Generator) -> "Sequence":
        """For a photo of ``side`` pixels; the generator can then draw the noise."""
        zoomed_px = int(side * rng.uniform(1.0, 1.1))
        amounts = (*rng.uniform(0.75, 1.25, 3).tolist(), rng.uniform(-0.1, 0.1))
        return cls(zoomed_px, amounts, tuple(rng.permutation(4).tolist()), rng.random() < 0.5)


def ce7454(
    photo: np.ndarray, labels: np.ndarray, space: LabelSpace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The CE7454 report's sequence: zoom, jitter, blur, noise, clamp; neither flip nor rotation.

    1. s ~ U(1, 1.1): resize photo (bilinear) and labels (nearest) to int(S s), then crop the S in the middle.
    2. Brightness, contrast and saturation by U(0.75, 1.25), hue by U(-0.1, 0.1) turns, in random order.
    3. With p 0.5 a 3x3 Gaussian blur, sigma 0.8.
    4. To floats; add N(0, 0.03^2) (of a range of 1) to every value, always; clamp.

    The report's steps 1 to 3 work on Pillow images, these on 8-bit tensors: a few levels apart at most.

    Returns:
        photo: float32 ``[S, S, 3]`` in 0..255, not rounded: noise and clamp come after the step to floats.
        labels: uint8 ``[S, S]``.
    """
    what = Sequence.drawn(photo.shape[0], rng)
    image, mask = zoomed_middle(*tv_tensors(photo, labels), what.zoomed_px)
    x, changes = image.float()[None], list(JITTER.values())
    for k in what.order:
        x = changes[k](x, torch.tensor(what.amounts[k], dtype=torch.float32).view(1, 1, 1, 1))
    x = blurred(x)[0] if what.blur else x[0]
    noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    return arrays(x.add(noise, alpha=255 * NOISE_SD).clamp_(0, 255), mask)


def zoomed_middle(image: Image, mask: Mask, size: int) -> tuple[Image, Mask]:
    """Both at ``size`` (at least their own), cropped to their own size in the middle."""
    own = image.shape[-2:]
    image = F.resize(image, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=False)
    # Pillow's "nearest" takes the pixel under the new pixel's centre, as torchvision's "nearest exact" does.
    mask = F.resize_image(mask, [size, size], interpolation=InterpolationMode.NEAREST_EXACT)
    return F.center_crop(image, own), F.center_crop(mask, own)

"""Diffusion editors over the tiny pipelines, and requests to them."""

import functools
from collections.abc import Callable

import pytest
import torch

from semfacediff.editing.base import EditRequest
from semfacediff.editing.diffusion import InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline
from semfacediff.types import RegionMasks

CPU = torch.device("cpu")


def noise_photo(i: int, height: int, width: int) -> torch.Tensor:
    """float32 ``[3, H, W]``, 8-bit values: a smooth picture with some noise, number ``i``."""
    generator = torch.Generator().manual_seed(i)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    fine = 0.1 * torch.rand(3, height, width, generator=generator)
    return ((smooth * 0.8 + fine) * 255).round().clamp(0, 255) / 255


@pytest.fixture(scope="session")
def requested() -> Callable[..., EditRequest]:
    """``requested(i, box=(top, bottom, left, right), size=(h, w), **fields)``: number ``i``, its region a rectangle."""

    def make(i: int, box=(8, 22, 9, 25), size=(32, 32), **fields) -> EditRequest:
        mask = torch.zeros(1, *size)
        mask[:, box[0] : box[1], box[2] : box[3]] = 1
        masks = RegionMasks(mask, mask, mask, float(mask.mean()))
        told = {"prompt": "curly brown hair", "negative_prompt": "", "seed": 1000 + i} | fields
        return EditRequest(f"photo{i}", "hair", noise_photo(i, *size), masks, **told)

    return make


@pytest.fixture(scope="session")
def inpainter(tiny_sdxl) -> Callable[..., InpaintEditor]:
    """``inpainter(name="sdxl_inpaint", memory=MemoryProfile(), **options)``: at 32 px and 3 steps by default.

    The same editor for the same words; a test that changes it asks for ``fresh=True``.
    """

    @functools.cache
    def made(name: str, memory: MemoryProfile, *options) -> InpaintEditor:
        return make(name, memory, fresh=True, **dict(options))

    def make(name="sdxl_inpaint", memory=MemoryProfile(), fresh=False, **options) -> InpaintEditor:  # noqa: B008
        if not fresh:
            return made(name, memory, *sorted(options.items()))
        files = find_pipeline(name, None, str(tiny_sdxl), download=False)
        chosen = InpaintOptions(**({"native_size": 32, "steps": 3} | options))
        return InpaintEditor(name, files, chosen, CPU, memory)

    return make


@pytest.fixture(scope="session")
def plain(inpainter) -> InpaintEditor:
    """The SDXL twin as it is."""
    return inpainter()

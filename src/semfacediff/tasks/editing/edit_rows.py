"""What every photo of an editing benchmark is edited to, and what the row of one edit says."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from semfacediff.editing.base import Editor
from semfacediff.editing.prompts.words import Words
from semfacediff.parsing import Parser
from semfacediff.records.samples import EMPTY_REGION, ERROR, OK
from semfacediff.types import RegionMasks

COLUMNS = (
    "sample_id attribute prompt negative_prompt seed status coverage lpips ssim iou clip psnr_outside max_abs_outside "
    "latency_s peak_memory_mib lpips_raw ssim_raw iou_raw clip_raw psnr_outside_raw max_abs_outside_raw width height "
    "mask_semantic mask_generation mask_blend edit_sha256 inputs_sha256 note error "
    "seam geometry_shift_pct parts_lost leakage seam_raw geometry_shift_pct_raw parts_lost_raw leakage_raw "
    "ita_deg pose_proxy traits expanded_prompt"
).split()

KEY = ("sample_id", "attribute")
MASKS = ("semantic", "generation", "blend")
_ROUNDING = 1e-3
"""An edit's values may leave [0,1] by this much; a quarter of an 8-bit level."""


@dataclass(frozen=True)
class Cell:
    """One edit that every photo gets: an attribute of the benchmark, or a stage of a cascade.

    Attributes:
        words: what the editor is told.
        strength: instead of the editor's own; ``None`` = the editor's own.
        stage: place in the cascade, from 1; ``None`` outside of one.
        nth: how many earlier stages edit the same attribute; tells the seeds of the two apart.
    """

    attribute: str
    words: Words
    strength: float | None = None
    stage: int | None = None
    nth: int = 0

    @property
    def name(self) -> str:
        """Of its folder below ``edits/``, of its features and of its row in the summary."""
        return self.attribute if self.stage is None else f"{self.stage}_{self.attribute}"


def edit_file(folder: Path, cell_name: str, sample_id: str) -> Path:
    """Where an edit is kept; for attributes, the layout that ``editor=precomputed`` reads."""
    return folder / "edits" / cell_name / f"{sample_id}.png"


def encoded_png(picture: np.ndarray) -> bytes:
    """A uint8 ``[H, W, 3]`` photo or ``[H, W]`` mask as PNG, compressed for speed."""
    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def inputs_fingerprint(parser: Parser, editor: Editor, sample_id: str, attribute: str) -> str | None:
    """Digest of the precomputed files behind a row; ``None`` if all of it is computed."""
    read = [source.fingerprint(sample_id, attribute) for source in (parser, editor)]
    return "-".join(filter(None, read)) or None


def still_valid(parser: Parser, editor: Editor) -> Callable[[dict], bool]:
    """Whether a row was made from the precomputed files as they are now."""
    return lambda row: row["inputs_sha256"] == inputs_fingerprint(parser, editor, row["sample_id"], row["attribute"])


def failure(error: Exception) -> dict:
    """What the row of a failed edit says."""
    return {"status": ERROR, "error": f"{type(error).__name__}: {error}", "latency_s": None}


def checked_edit(edit: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
    """``edit``, if an editor may return it; clamping would make a plausible photo of [-1,1] or of NaN."""
    if edit.shape != photo.shape:
        raise ValueError(f"the edit is {list(edit.shape)}, its photo {list(photo.shape)}; editors keep the size")
    low, high = (x.item() for x in torch.aminmax(edit))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"the edit has values {low:.4g}..{high:.4g}; editors return photos in [0,1]")
    return edit


def mask_facts(masks: RegionMasks, photo: np.ndarray, empty: bool) -> dict:
    """Status, coverage, size of the photo (uint8 ``[H, W, 3]``) and digests of the masks."""
    hashes = {f"mask_{kind}": digest_of_mask(getattr(masks, kind)) for kind in MASKS}
    size = {"width": photo.shape[1], "height": photo.shape[0]}
    return {"status": EMPTY_REGION if empty else OK, "coverage": masks.coverage, **size, **hashes}


def digest_of_mask(mask: torch.Tensor) -> str:
    """First 16 hex digits of the SHA-256 of the mask at 8 bits, which is what all three masks are made of."""
    return hashlib.sha256(mask.mul(255).round().to(torch.uint8).numpy().tobytes()).hexdigest()[:16]

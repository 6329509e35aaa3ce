"""The way to apply an edit: masks, seed and request; the editor; the check of its answer; the composite.

The benchmark, ``semfacediff edit``, the page and the functions on arrays all pass through here. The benchmark calls the
steps one by one, because masks, edits and composites of different photos are made side by side; everything else calls
:func:`apply_edit`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from semfacediff import config
from semfacediff.editing.base import Editor, EditRequest, edit_name
from semfacediff.editing.composite import check_outside, composite
from semfacediff.editing.prompts.words import Words
from semfacediff.labels import LabelSpace
from semfacediff.regions import RegionRule, masks_of, task_region
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.regions.own_masks import OwnMasks
from semfacediff.seeding import derive_seed
from semfacediff.types import FaceSample, RegionMasks, to_uint8

_ROUNDING = 1e-3
"""An edit's values may leave [0,1] by this much; a quarter of an 8-bit level."""


@dataclass(frozen=True)
class EditSpec:
    """One edit to make: an attribute, or a stage of a cascade.

    Attributes:
        words: what the editor is told.
        strength: instead of the editor's own; ``None`` = the editor's own.
        stage: place in the cascade, from 1; ``None`` outside of one.
        repeat: which of the edits of each photo it is, from 1; ``None`` where there is one.
        nth: how many earlier stages edit the same attribute; tells the seeds of the two apart.
        kind, target: of the task, where a task set says what each photo is edited to.
    """

    attribute: str
    words: Words
    strength: float | None = None
    stage: int | None = None
    nth: int = 0
    kind: str | None = None
    target: str | None = None
    repeat: int | None = None

    @property
    def name(self) -> str:
        """Of its folder below ``edits/``, of its features and of its row in the summary."""
        own = edit_name(self.attribute, self.repeat)
        return own if self.stage is None else f"{self.stage}_{own}"


@dataclass(frozen=True)
class AppliedEdit:
    """An edit at 8 bits.

    Attributes:
        raw: the editor's answer, uint8 ``[H, W, 3]``. photo: after the composite, uint8 ``[H, W, 3]``.
        blend: uint8 ``[H, W]``, 255 = edit.
    """

    raw: np.ndarray
    photo: np.ndarray
    blend: np.ndarray


@dataclass(frozen=True)
class EditRules:
    """How edits are applied; the fields are keys of an editing run's configuration.

    Attributes:
        region: how a region becomes masks.
        composite, seam: see :func:`semfacediff.editing.composite.composite`.
        inpaint_mask: see :class:`semfacediff.editing.base.EditRequest`.
        seed: of the run. seeds: ``run`` gives every edit the run's seed, ``sample`` each its own.
        edit_empty: whether a region below ``MIN_COVERAGE`` is edited too, as ``protocol=thesis`` does.
        own_masks: where regions come from instead of the parse, if they do.
    """

    region: RegionRule
    composite: str
    seam: str
    inpaint_mask: str
    seed: int
    seeds: str
    edit_empty: bool
    own_masks: OwnMasks | None = None

    @classmethod
    def of(cls, settings: config.EditingEvaluation) -> "EditRules":
        s = settings
        region = RegionRule(**s.region.model_dump())
        own = OwnMasks(s.masks) if s.masks else None
        return cls(region, s.composite, s.seam, s.inpaint_mask, s.seed, s.seeds, s.protocol == "thesis", own)

    def semantic(
        self,
        sample: FaceSample,
        labels: torch.Tensor,
        attribute: str,
        space: LabelSpace,
        kind: str | None = None,
    ) -> np.ndarray:
        """bool ``[H, W]``: the region of ``attribute``, for a task of ``kind``.

        Args:
            labels: int64 ``[H, W]`` in ``space``, the parse of the sample's photo at the working size.

        Raises:
            UserError: there is no own mask, or it is not one of this photo.
        """
        if self.own_masks is None:
            return task_region(labels, attribute, space, kind)
        height, width = labels.shape
        return self.own_masks.region(sample.id, attribute, (height, width), sample.photo.shape[:2])

    def masks(
        self,
        sample: FaceSample,
        labels: torch.Tensor,
        attribute: str,
        space: LabelSpace,
        kind: str | None = None,
    ) -> RegionMasks:
        """The three masks of :meth:`semantic`."""
        return masks_of(self.semantic(sample, labels, attribute, space, kind), self.region)

    def skips(self, masks: RegionMasks) -> bool:
        """Whether the region is too small to be edited."""
        return is_empty(masks) and not self.edit_empty

    def seed_of(self, sample_id: str, spec: EditSpec) -> int:
        """What the editor draws from; the first of several edits has the seed of the one where there is one."""
        again: list[int | str] = ["repeat", spec.repeat] if spec.repeat and spec.repeat > 1 else []
        if self.seeds == "run":
            return derive_seed(self.seed, *again) if again else self.seed
        return derive_seed(self.seed, sample_id, spec.attribute, *([spec.nth] if spec.nth else []), *again)

    def request(
        self,
        sample_id: str,
        photo: torch.Tensor,
        spec: EditSpec,
        masks: RegionMasks,
        labels: torch.Tensor,
        space: LabelSpace,
        on_step: Callable[[int, int], None] | None = None,
    ) -> EditRequest:
        """What the editor gets.

        Args:
            photo: float32 ``[3, H, W]`` in [0, 1]. labels: int64 ``[H, W]`` in ``space``, the photo's whole parse.
            on_step: see :class:`semfacediff.editing.base.EditRequest`.
        """
        return EditRequest(
            sample_id=sample_id,
            attribute=spec.attribute,
            photo=photo,
            masks=masks,
            prompt=spec.words.read,
            negative_prompt=spec.words.negative_prompt,
            seed=self.seed_of(sample_id, spec),
            strength=spec.strength,
            inpaint_mask=self.inpaint_mask,
            labels=labels,
            label_space=space,
            repeat=spec.repeat,
            instruction=spec.words.instruction,
            on_step=on_step,
        )

    def finish(self, photo: np.ndarray, request: EditRequest, edit: torch.Tensor) -> AppliedEdit:
        """Check the editor's answer (float32 ``[3, H, W]``) and composite it with ``photo`` (uint8 ``[H, W, 3]``).

        Raises:
            ValueError: the answer has another size, or values outside [0, 1].
            RuntimeError: ``composite=exact`` changed a byte outside the blend mask.
        """
        raw = to_uint8(checked_edit(edit, request.photo))
        blend = mask_bytes(request.masks.blend)
        final = composite(photo, raw, blend, self.composite, self.seam)
        if self.composite == "exact":
            check_outside(photo, final, blend)
        return AppliedEdit(raw, final, blend)


def apply_edit(editor: Editor, rules: EditRules, photo: np.ndarray, request: EditRequest) -> AppliedEdit | None:
    """One edit from request to composite; ``None`` where the region is too small to be edited.

    Args:
        photo: uint8 ``[H, W, 3]``, of which ``request`` holds the tensor.

    Raises:
        ValueError, RuntimeError: as :meth:`EditRules.finish`; and whatever the editor raises.
    """
    if rules.skips(request.masks):
        return None
    return rules.finish(photo, request, edits_of(editor, [request])[0])


def edits_of(editor: Editor, requests: list[EditRequest]) -> list[torch.Tensor]:
    """What the editor answers to copies of ``requests``; a :class:`ValueError` if it is not one photo each."""
    edits = editor.edit([request.copied() for request in requests])
    if len(edits) != len(requests):
        raise ValueError(f"the editor returned {len(edits)} photos for {len(requests)} requests")
    return edits


def is_empty(masks: RegionMasks) -> bool:
    """Whether the region covers less than ``MIN_COVERAGE`` of the photo."""
    return masks.coverage < MIN_COVERAGE


def mask_bytes(mask: torch.Tensor) -> np.ndarray:
    """uint8 ``[H, W]`` of a float32 ``[1, H, W]`` mask; all three masks are made at 8 bits, so nothing is lost."""
    return np.rint(mask[0].numpy() * 255).astype(np.uint8)


def checked_edit(edit: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
    """``edit``, if an editor may return it; clamping would make a plausible photo of [-1,1] or of NaN."""
    if edit.shape != photo.shape:
        raise ValueError(f"the edit is {list(edit.shape)}, its photo {list(photo.shape)}; editors keep the size")
    low, high = (x.item() for x in torch.aminmax(edit))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"the edit has values {low:.4g}..{high:.4g}; editors return photos in [0,1]")
    return edit

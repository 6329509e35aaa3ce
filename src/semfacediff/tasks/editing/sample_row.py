"""The row of one edit: what is known before the edit, then composite, parse again, measure, save."""

import functools
import hashlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from semfacediff.config.prompts import ADD, REMOVE
from semfacediff.editing.apply import EditRules, EditSpec, is_empty
from semfacediff.editing.base import Editor, EditRequest, edit_name
from semfacediff.metrics.alignment import Alignment
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.metrics.effect import UNCHANGED_PCT, Effect
from semfacediff.metrics.overall import OVERALL, Overall
from semfacediff.parsing import Parser
from semfacediff.records.samples import EMPTY_REGION, ERROR, OK, UNCHANGED
from semfacediff.records.writing import write_bytes
from semfacediff.regions import attribute_region
from semfacediff.regions.own_masks import OwnMasks
from semfacediff.types import FaceSample, RegionMasks, to_tensor

COLUMNS = (
    "sample_id attribute prompt negative_prompt seed status coverage lpips ssim iou clip psnr_outside max_abs_outside "
    "latency_s peak_memory_mib lpips_raw ssim_raw iou_raw clip_raw psnr_outside_raw max_abs_outside_raw width height "
    "mask_semantic mask_generation mask_blend edit_sha256 inputs_sha256 note error "
    "seam geometry_shift_pct parts_lost leakage seam_raw geometry_shift_pct_raw parts_lost_raw leakage_raw "
    "ita_deg pose_proxy traits expanded_prompt raw_sha256"
).split()

TASK_COLUMNS = ("kind", "target", "source_distance")
"""Of a task set: what was asked, and how far from the colour of the prompt the photo was (CIELAB)."""
KEY = ("sample_id", "attribute")
REPEAT_KEY = (*KEY, "repeat")
STAGE_KEY = ("sample_id", "stage")
MASKS = ("semantic", "generation", "blend")

EDITS, RAW_EDITS = "edits", "edits_raw"
"""Folders of the edits, and of those before the composite where they differ."""
REGISTERED = "_raw_registered"
AT_ONCE = 8
"""Edits that are scored together where a network's batches are quicker; at 1024 px LPIPS holds some 0.2 GB of each."""


def row_key(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that name a row of a run with this configuration, as its record holds it."""
    if plain.get("cascade") is not None:
        return STAGE_KEY
    return REPEAT_KEY if plain["editor"].get("repeats", 1) > 1 else KEY


class Parsers(NamedTuple):
    """The parser that masks are made of, and the one that scores edits; the same one, unless there are two."""

    mask: Parser
    judge: Parser


@dataclass(frozen=True)
class Parsed:
    """A photo at the working size with its parses; made once, used for every attribute.

    ``photo`` is uint8 ``[H, W, 3]``, ``labels`` (that masks are made of) and ``judged`` (the judge's) int64 ``[H, W]``;
    ``facts`` are columns that say whose face it is, ``floor`` those of each attribute that say how steady the judge is.
    """

    sample: FaceSample
    photo: np.ndarray
    labels: torch.Tensor
    parse_s: float
    facts: dict[str, float | str | None]
    judged: torch.Tensor
    floor: Mapping[str, Mapping[str, float | None]]

    @functools.cached_property
    def image(self) -> torch.Tensor:
        """The photo as float32 ``[3, H, W]`` in [0, 1]."""
        return to_tensor(self.photo)


@dataclass(frozen=True)
class Task:
    """One edit of one photo, on its way from the mask to the row.

    Attributes:
        row: what is known of it so far; all of it, where there is no ``request``.
        before_s: seconds of parse, mask and edit.
        edit: what the editor returned or raised. note: what it says of it.
        peak_mib: most memory that was in use while it worked.
    """

    row: dict
    spec: EditSpec
    parsed: Parsed | None = None
    request: EditRequest | None = None
    before_s: float = 0.0
    edit: torch.Tensor | Exception | None = None
    note: str | None = None
    peak_mib: float | None = None


@dataclass(frozen=True)
class ScoredEdit:
    """An edit that was scored.

    ``photo`` is uint8 ``[H, W, 3]`` after the composite, ``blend`` uint8 ``[H, W]``, ``labels`` the judge's parse of it
    (int64 ``[H, W]``; ``None`` if it has no opinion), which took ``parse_s`` seconds.
    """

    photo: np.ndarray
    blend: np.ndarray
    labels: torch.Tensor | None
    parse_s: float


@dataclass(frozen=True)
class _Composited:
    """What an edit became, and what is to be measured: the final photo, and the one before the composite if that is
    another, as ``pairs``; ``raw``: that photo, uint8 ``[H, W, 3]``. ``error``: what went wrong instead."""

    made: ScoredEdit | None = None
    raw: np.ndarray | None = None
    pairs: Sequence[EditPair] = ()
    error: Exception | None = None


class EditScorer:
    """Scores edits; any number of threads may do so at once.

    Args:
        rules: how edits are applied. overall: the score of a whole row, if any.
        folder: where ``edits/`` and ``edits_raw/`` go; ``None``: edits are not saved. save_raw: whether the latter.

    Attributes:
        at_once: how many edits to hand over at a time: one, unless a metric takes several together.
        registered_columns: scores of the outside with the motion of the edit undone, where alignment is measured.
    """

    def __init__(
        self,
        rules: EditRules,
        parsers: Parsers,
        metrics: list[Metric],
        folder: Path | None,
        save_raw: bool = True,
        overall: Overall | None = None,
    ):
        self.rules, self.metrics, self.folder, self.overall = rules, metrics, folder, overall
        self.save_raw = save_raw
        self.parser, self.judge = parsers
        self._alignment = next((metric for metric in metrics if isinstance(metric, Alignment)), None)
        self._outside = [metric for metric in metrics if self._alignment and metric.of_outside]
        self.registered_columns = tuple(f"{c}{REGISTERED}" for metric in self._outside for c in metric.columns)
        self.at_once = AT_ONCE if any(metric.together for metric in metrics) else 1

    def finished(self, tasks: Sequence[Task]) -> list[tuple[dict, ScoredEdit | None]]:
        """Each task's whole row, and the edit unless there is none or something failed, which the row then says.

        Raises:
            UserError: an edit cannot be written.
        """
        composited = [self._composited(task) for task in tasks]
        scores = iter(self._scores([pair for one in composited for pair in one.pairs]))
        return [
            self._row(task, one, list(itertools.islice(scores, len(one.pairs))))
            for task, one in zip(tasks, composited, strict=True)
        ]

    def _row(self, task: Task, one: _Composited, scores: list[dict | Exception]) -> tuple[dict, ScoredEdit | None]:
        if task.request is None:
            return task.row, None
        row = task.row | {"latency_s": task.before_s, "peak_memory_mib": task.peak_mib}
        scored = [found for found in scores if not isinstance(found, Exception)]
        if one.made is None or len(scored) < len(scores):
            return row | failure(next(e for e in (one.error, *scores) if isinstance(e, Exception))), None
        made = one.made
        digests = self._saved(made.photo, one.raw, task.spec.name, task.request.sample_id)
        try:
            registered = self._registered(one.pairs[-1], scored[-1])
        except Exception as e:  # one bad sample must not cost the others
            return row | failure(e), None
        final, raw = scored[0], {f"{name}_raw": value for name, value in scored[-1].items()} | dict(registered)
        row |= final | raw | {"note": self._note(task)} | digests
        row |= of_effect(row)
        return row | ({OVERALL: self.overall.score(row)} if self.overall else {}), made

    def _saved(self, photo: np.ndarray, raw: np.ndarray | None, name: str, sample_id: str) -> dict[str, str]:
        """Write an edit, and the one before the composite where it differs; the digests of both."""
        if self.folder is not None:
            write_bytes(edit_file(self.folder, name, sample_id), encoded_png(photo))
            if self.save_raw and raw is not None:
                write_bytes(edit_file(self.folder, name, sample_id, RAW_EDITS), encoded_png(raw))
        return {"edit_sha256": digest_of_pixels(photo), "raw_sha256": digest_of_pixels(photo if raw is None else raw)}

    def _registered(self, raw: EditPair, scores: Mapping[str, float | str | None]) -> Mapping[str, float | str | None]:
        """:attr:`registered_columns` of the edit before the composite, whose scores as it lies are ``scores``."""
        pair = self._alignment.registered(raw) if self._alignment else None
        if pair is None:
            return {}
        if pair is not raw:
            scores = {k: v for metric in self._outside for k, v in metric.score(pair).items()}
        return {column: scores[column.removesuffix(REGISTERED)] for column in self.registered_columns}

    def _composited(self, task: Task) -> _Composited:
        if task.request is None:
            return _Composited()
        try:
            if isinstance(task.edit, Exception):
                raise task.edit
            if task.parsed is None or task.edit is None:
                raise TypeError("the editor returned no photo")
            edit = self.rules.finish(task.parsed.photo, task.request, task.edit)
            made, pair = self._parsed_again(task.parsed, task.spec, edit.photo, edit.blend)
            if np.array_equal(edit.raw, edit.photo):
                return _Composited(made, pairs=[pair])
            raw_pair = self._parsed_again(task.parsed, task.spec, edit.raw, edit.blend)[1]
            return _Composited(made, edit.raw, [pair, raw_pair])
        except Exception as e:  # one bad sample must not cost the others
            return _Composited(error=e)

    def _parsed_again(
        self, p: Parsed, spec: EditSpec, edit: np.ndarray, blend: np.ndarray
    ) -> tuple[ScoredEdit, EditPair]:
        start = time.perf_counter()
        after = self.judge.after(p.sample, spec.attribute, to_tensor(edit))
        seconds = time.perf_counter() - start
        made = ScoredEdit(edit, blend, after, seconds)
        return made, self._pair(p, spec, spec.words.prompt, edit, blend, after)

    def _scores(self, pairs: Sequence[EditPair]) -> list[dict | Exception]:
        """Every metric of each pair, or what went wrong with that pair."""
        try:
            columns = [_sound(metric, metric.scores(pairs)) for metric in self.metrics] if pairs else []
            return [{k: v for of_metric in columns for k, v in of_metric[i].items()} for i in range(len(pairs))]
        except Exception as e:  # one bad sample must not cost the others
            return [e] if len(pairs) == 1 else [one for pair in pairs for one in self._scores([pair])]

    def measured(
        self,
        p: Parsed,
        spec: EditSpec,
        prompt: str,
        edit: np.ndarray,
        blend: np.ndarray,
        after: torch.Tensor | None,
    ) -> dict[str, float | str | None]:
        """Every metric of ``edit`` (uint8 ``[H, W, 3]``, with the parse ``after``) against the photo ``p``."""
        pair = self._pair(p, spec, prompt, edit, blend, after)
        return {k: v for metric in self.metrics for k, v in metric.score(pair).items()}

    def _pair(
        self,
        p: Parsed,
        spec: EditSpec,
        prompt: str,
        edit: np.ndarray,
        blend: np.ndarray,
        after: torch.Tensor | None,
    ) -> EditPair:
        space, attribute = self.judge.label_space, spec.attribute
        apart = self.judge is not self.parser or self.rules.own_masks is not None
        # What is added or removed does not keep its place and shape.
        keeps = after is not None and spec.kind not in (ADD, REMOVE)
        return EditPair(
            photo=p.photo,
            edit=edit,
            blend=blend,
            before=self.rules.semantic(p.sample, p.labels, attribute, self.parser.label_space, spec.kind),
            after=attribute_region(after, attribute, space) if after is not None and keeps else None,
            prompt=prompt,
            attribute=attribute,
            labels_before=p.judged.numpy(),
            labels_after=None if after is None else after.numpy(),
            space=space,
            judged=attribute_region(p.judged, attribute, space) if apart else None,
        )

    def _note(self, task: Task) -> str | None:
        said = [task.note, *(metric.note(task.spec.words.prompt) for metric in self.metrics)]
        return "; ".join(filter(None, said)) or None


def _sound(metric: Metric, scores: Sequence[Mapping]) -> Sequence[Mapping]:
    """``scores``, if they are what ``metric`` declares."""
    for of_pair in scores:
        if set(of_pair) != set(metric.columns):
            raise ValueError(f"{type(metric).__name__} returned {sorted(of_pair)}, declared {sorted(metric.columns)}")
        if wrong := [column for column, value in of_pair.items() if value != value]:
            raise ValueError(f"{type(metric).__name__} returned NaN for {wrong[0]}; a missing value is None")
    return scores


def edit_file(folder: Path, spec_name: str, sample_id: str, of: str = EDITS) -> Path:
    """Where an edit is kept: the layout that ``editor=precomputed`` reads, except of cascades."""
    return folder / of / spec_name / f"{sample_id}.png"


def digest_of_pixels(photo: np.ndarray) -> str:
    """First 16 hex digits of the SHA-256 of a uint8 ``[H, W, 3]`` photo."""
    return hashlib.sha256(photo.tobytes()).hexdigest()[:16]


def encoded_png(picture: np.ndarray) -> bytes:
    """A uint8 ``[H, W, 3]`` photo or ``[H, W]`` mask as PNG, compressed for speed."""
    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def inputs_fingerprint(
    parsers: Parsers,
    editor: Editor,
    own_masks: OwnMasks | None,
    sample_id: str,
    attribute: str,
    repeat: int | None,
) -> str | None:
    """Digest of the files behind a row: label maps, edits and own masks; ``None`` if all of it is computed."""
    two = parsers.judge is not parsers.mask
    read = [parsers.mask.fingerprint(sample_id, None if two else attribute)]
    read += [parsers.judge.fingerprint(sample_id, attribute)] * two
    read += [editor.fingerprint(sample_id, edit_name(attribute, repeat))]
    read += [own_masks.fingerprint(sample_id, attribute)] if own_masks else []
    return "-".join(filter(None, read)) or None


def still_valid(parsers: Parsers, editor: Editor, own_masks: OwnMasks | None) -> Callable[[dict], bool]:
    """Whether a row was made from the files as they are now."""

    def valid(row: dict) -> bool:
        of_row = row["sample_id"], row["attribute"], row.get("repeat")
        return row["inputs_sha256"] == inputs_fingerprint(parsers, editor, own_masks, *of_row)

    return valid


def failure(error: Exception) -> dict:
    """What the row of a failed edit says."""
    return {"status": ERROR, "error": f"{type(error).__name__}: {error}", "latency_s": None}


def of_effect(row: dict) -> dict:
    """What the effect of an edit changes in its row: of an empty region there is none, and no change is a status."""
    if row["status"] == EMPTY_REGION:
        measured = row.keys() & {c + suffix for c in Effect.columns for suffix in ("", "_raw")}
        return dict.fromkeys(measured)
    changed = row.get("changed_pct")
    return {"status": UNCHANGED} if changed is not None and changed < UNCHANGED_PCT else {}


def mask_facts(masks: RegionMasks, photo: np.ndarray) -> dict:
    """Status, coverage, size of the photo (uint8 ``[H, W, 3]``) and digests of the masks."""
    size = {"width": photo.shape[1], "height": photo.shape[0]}
    return {
        "status": EMPTY_REGION if is_empty(masks) else OK,
        "coverage": masks.coverage,
        **size,
        **mask_digests(masks),
    }


def mask_digests(masks: RegionMasks) -> dict[str, str]:
    """Column -> digest of each of the three masks."""
    return {f"mask_{kind}": digest_of_mask(getattr(masks, kind)) for kind in MASKS}


def digest_of_mask(mask: torch.Tensor) -> str:
    """First 16 hex digits of the SHA-256 of the mask at 8 bits, which is what all three masks are made of."""
    return hashlib.sha256(mask.mul(255).round().to(torch.uint8).numpy().tobytes()).hexdigest()[:16]

"""Parse, mask, edit, composite, parse again, measure: the editing benchmark, sample by sample."""

import dataclasses
import hashlib
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from semfacediff import config
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.composite import check_outside, composite
from semfacediff.editing.prompts.words import Words
from semfacediff.labels import LabelSpace
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.metrics.face_facts import ita_deg, pose_proxy
from semfacediff.parsing import Parser
from semfacediff.records.samples import EMPTY_REGION, ERROR, OK, SampleLog
from semfacediff.records.writing import write_bytes
from semfacediff.regions import RegionRule, attribute_region, region_masks
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.runs.prefetch import read_ahead
from semfacediff.seeding import derive_seed
from semfacediff.types import FaceSample, RegionMasks, to_tensor, to_uint8

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
class Parsed:
    """A photo at the working size with its parse; made once, used for every attribute.

    ``photo`` is uint8 ``[H, W, 3]``, ``labels`` int64 ``[H, W]``; ``facts`` are columns that say whose face it is.
    """

    sample: FaceSample
    photo: np.ndarray
    labels: torch.Tensor
    parse_s: float
    facts: dict[str, float | str | None]


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


@dataclass(frozen=True)
class Made:
    """An edit that was scored.

    ``photo`` is uint8 ``[H, W, 3]`` after the composite, ``blend`` uint8 ``[H, W]``, ``labels`` the edit's parse
    (int64 ``[H, W]``; ``None`` if the parser has no opinion), which took ``parse_s`` seconds.
    """

    photo: np.ndarray
    blend: np.ndarray
    labels: torch.Tensor | None
    parse_s: float


def inputs_fingerprint(parser: Parser, editor: Editor, sample_id: str, attribute: str) -> str | None:
    """Digest of the precomputed files behind a row; ``None`` if all of it is computed."""
    read = [source.fingerprint(sample_id, attribute) for source in (parser, editor)]
    return "-".join(filter(None, read)) or None


def still_valid(parser: Parser, editor: Editor) -> Callable[[dict], bool]:
    """Whether a row was made from the precomputed files as they are now."""
    return lambda row: row["inputs_sha256"] == inputs_fingerprint(parser, editor, row["sample_id"], row["attribute"])


class EditingBench:
    """The editing benchmark of one run; reads like the method section.

    Args:
        faces: map-style data set. folder: where ``samples.jsonl`` and ``edits/`` go.
        cells: what every photo is edited to.
    """

    key, columns = KEY, COLUMNS

    def __init__(
        self,
        settings: config.EditingEvaluation,
        faces,
        parser: Parser,
        editor: Editor,
        metrics: list[Metric],
        folder: Path,
        cells: Sequence[Cell],
    ):
        self.settings, self.faces, self.parser, self.editor, self.metrics = settings, faces, parser, editor, metrics
        self.folder, self.cells = folder, cells
        self._pool = ThreadPoolExecutor(3)
        self.rule = RegionRule(**settings.region.model_dump())
        self.log = SampleLog(folder / "samples.jsonl", self.key, still_valid(parser, editor))

    def run(self) -> None:
        """Everything that is not in the log yet."""
        todo = [i for i, id_ in enumerate(self.faces.ids) if self.open(id_)]
        if todo:
            self.editor.prepare()
        total = len(self.faces) * len(self.cells)
        with tqdm(total=total, initial=len(self.log.done), desc="edit", unit="edit") as bar:
            batch: list[FaceSample] = []
            for sample in read_ahead(self.faces, todo, self.settings.runtime.workers):
                batch.append(sample)
                if len(batch) == self.settings.runtime.batch_size:
                    self._batch(batch, bar)
                    batch = []
            self._batch(batch, bar)

    def key_of(self, sample_id: str, cell: Cell) -> tuple:
        """What names a cell's row."""
        return sample_id, cell.attribute

    def open(self, sample_id: str) -> list[Cell]:
        """Cells of a sample that are not in the log."""
        return [cell for cell in self.cells if self.key_of(sample_id, cell) not in self.log.done]

    def _batch(self, samples: list[FaceSample], bar: tqdm) -> None:
        parsed = [p for s in samples if (p := self._parsed_or_failed(s, bar)) is not None]
        for cell in self.cells:
            waiting = [p for p in parsed if self.key_of(p.sample.id, cell) not in self.log.done]
            for row, _ in self._edited(waiting, cell):
                self._keep(row, bar)

    def _keep(self, row: dict, bar: tqdm) -> None:
        self.log.append({c: row.get(c) for c in self.columns})
        bar.update()

    def parsed(self, sample: FaceSample) -> Parsed:
        """The photo at the working size, and its parse."""
        photo = self.at_working_size(sample.photo)
        start = time.perf_counter()
        labels = self.parser.before(sample, to_tensor(photo))
        seconds = time.perf_counter() - start
        return Parsed(sample, photo, labels, seconds, _face_facts(sample, photo, labels, self.parser.label_space))

    def _parsed_or_failed(self, sample: FaceSample, bar: tqdm) -> Parsed | None:
        """``None`` if the parser failed; every open cell of the sample then has its error recorded."""
        try:
            return self.parsed(sample)
        except Exception as e:  # one bad sample must not cost the others
            for cell in self.open(sample.id):
                self._keep(self._facts(sample.id, cell) | failure(e), bar)
            return None

    def at_working_size(self, photo: np.ndarray) -> np.ndarray:
        """uint8 ``[H, W, 3]``: the photo as it is edited and scored."""
        size = self.settings.working_size
        if size is None or photo.shape[:2] == (size, size):
            return photo
        return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS))

    def _facts(self, sample_id: str, cell: Cell) -> dict:
        s, repeat = self.settings, [cell.nth] if cell.nth else []
        seed = s.seed if s.seeds == "run" else derive_seed(s.seed, sample_id, cell.attribute, *repeat)
        read = {"inputs_sha256": inputs_fingerprint(self.parser, self.editor, sample_id, cell.attribute)}
        place = {"sample_id": sample_id, "stage": cell.stage, "attribute": cell.attribute, "strength": cell.strength}
        return {**place, **dataclasses.asdict(cell.words), "seed": seed, **read}

    def _edited(self, parsed: list[Parsed], cell: Cell) -> Iterator[tuple[dict, Made | None]]:
        """(row, edit) a photo, each as soon as it is known: what was left alone first (no edit), then the edits."""
        waiting, requests = {}, []
        for p in parsed:
            start = time.perf_counter()
            masks = region_masks(p.labels, cell.attribute, self.parser.label_space, self.rule)
            seconds = p.parse_s + time.perf_counter() - start
            empty = masks.coverage < MIN_COVERAGE
            row = self._facts(p.sample.id, cell) | p.facts | _mask_facts(masks, p.photo, empty)
            if empty and self.settings.protocol == "strict":
                yield row, None
                continue
            waiting[p.sample.id] = (row, p, seconds)
            requests.append(self._request(p, masks, row))
        for request, edit, seconds in self._made(requests):
            row, p, before_s = waiting[request.sample_id]
            row |= {"latency_s": before_s + seconds, "peak_memory_mib": peak_memory_mib()}
            outcome, made = self._outcome(p, cell, request, edit)
            yield row | outcome, made

    def _request(self, p: Parsed, masks: RegionMasks, row: dict) -> EditRequest:
        told = {k: row[k] for k in ("sample_id", "attribute", "negative_prompt", "seed", "strength")}
        told["prompt"] = row["expanded_prompt"] or row["prompt"]
        return EditRequest(photo=to_tensor(p.photo), masks=masks, **told)

    def _made(self, requests: list[EditRequest]):
        """(request, edit or exception, seconds a photo); if a batch fails, its photos are tried one by one."""
        groups = [requests] if self.editor.batchable else [[r] for r in requests]
        for group in filter(None, groups):
            start = time.perf_counter()
            try:
                edits = self.editor.edit(group)
            except Exception as e:  # recorded with the sample
                if len(group) > 1:
                    yield from (made for r in group for made in self._made([r]))
                    continue
                edits = [e]
            seconds = (time.perf_counter() - start) / len(group)
            yield from ((r, edit, seconds) for r, edit in zip(group, edits, strict=True))

    def _outcome(
        self, p: Parsed, cell: Cell, request: EditRequest, edit: torch.Tensor | Exception
    ) -> tuple[dict, Made | None]:
        """Composite, parse again, measure and save; a failure's facts (and no edit) if something of it fails."""
        try:
            if isinstance(edit, Exception):
                raise edit
            raw = to_uint8(checked_edit(edit, request.photo))
            blend = np.rint(request.masks.blend[0].numpy() * 255).astype(np.uint8)
            final = composite(p.photo, raw, blend, self.settings.composite, self.settings.seam)
            if self.settings.composite == "exact":
                check_outside(p.photo, final, blend)
            edits = [final] if np.array_equal(raw, final) else [final, raw]
            # Encoding, final and raw side by side: each has stretches that use one core.
            png = self._pool.submit(encoded_png, final)
            scored = list(self._pool.map(lambda edit: self._scores(p, cell, edit, blend), edits))
            (scores, after, parse_s), (raw_scores, *_) = scored[0], scored[-1]
        except Exception as e:  # one bad sample must not cost the others
            return failure(e), None
        write_bytes(edit_file(self.folder, cell.name, request.sample_id), png.result())
        raw_columns = {f"{k}_raw": v for k, v in raw_scores.items()}
        facts = {"note": self._note(cell, request), "edit_sha256": hashlib.sha256(final.tobytes()).hexdigest()[:16]}
        return scores | raw_columns | facts, Made(final, blend, after, parse_s)

    def _note(self, cell: Cell, request: EditRequest) -> str | None:
        said = [self.editor.note(request), *(metric.note(cell.words.prompt) for metric in self.metrics)]
        return "; ".join(filter(None, said)) or None

    def _scores(
        self, p: Parsed, cell: Cell, edit: np.ndarray, blend: np.ndarray
    ) -> tuple[dict, torch.Tensor | None, float]:
        """Columns of an edit (after or before the composite), its parse, and the seconds that took."""
        start = time.perf_counter()
        after = self.parser.after(p.sample, cell.attribute, to_tensor(edit))
        seconds = time.perf_counter() - start
        return self.measured(p, cell.attribute, cell.words.prompt, edit, blend, after), after, seconds

    def measured(
        self,
        p: Parsed,
        attribute: str,
        prompt: str,
        edit: np.ndarray,
        blend: np.ndarray,
        after: torch.Tensor | None,
    ) -> dict[str, float | None]:
        """Every metric of ``edit`` (uint8 ``[H, W, 3]``, with the parse ``after``) against the photo ``p``."""
        space = self.parser.label_space
        pair = EditPair(
            photo=p.photo,
            edit=edit,
            blend=blend,
            before=attribute_region(p.labels, attribute, space),
            after=None if after is None else attribute_region(after, attribute, space),
            prompt=prompt,
            attribute=attribute,
            labels_before=p.labels.numpy(),
            labels_after=None if after is None else after.numpy(),
            space=space,
        )
        return {k: v for metric in self.metrics for k, v in metric.score(pair).items()}


def encoded_png(picture: np.ndarray) -> bytes:
    """A uint8 ``[H, W, 3]`` photo or ``[H, W]`` mask as PNG, compressed for speed."""
    pixels = picture[..., ::-1] if picture.ndim == 3 else picture
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def edit_file(folder: Path, cell_name: str, sample_id: str) -> Path:
    """Where an edit is kept; for attributes, the layout that ``editor=precomputed`` reads."""
    return folder / "edits" / cell_name / f"{sample_id}.png"


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


def _mask_facts(masks: RegionMasks, photo: np.ndarray, empty: bool) -> dict:
    hashes = {f"mask_{kind}": digest_of_mask(getattr(masks, kind)) for kind in MASKS}
    size = {"width": photo.shape[1], "height": photo.shape[0]}
    return {"status": EMPTY_REGION if empty else OK, "coverage": masks.coverage, **size, **hashes}


def _face_facts(sample: FaceSample, photo: np.ndarray, labels: torch.Tensor, space: LabelSpace) -> dict:
    """By what reports are stratified; ``traits`` is the data set's annotation as JSON, ``None`` where there is none."""
    traits = json.dumps(sample.attributes, sort_keys=True, ensure_ascii=False) if sample.attributes else None
    shown = labels.numpy()
    return {"ita_deg": ita_deg(photo, shown, space), "pose_proxy": pose_proxy(shown, space), "traits": traits}


def digest_of_mask(mask: torch.Tensor) -> str:
    """First 16 hex digits of the SHA-256 of the mask at 8 bits, which is what all three masks are made of."""
    return hashlib.sha256(mask.mul(255).round().to(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def peak_memory_mib() -> float:
    """Peak of the accelerator's memory where there is one, else of the process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

"""Parse, mask, edit, composite, parse again, measure: the editing benchmark, sample by sample."""

import dataclasses
import hashlib
import resource
import time
from collections.abc import Callable, Iterator
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
from semfacediff.editing.composite import composite
from semfacediff.metrics.base import EditPair, Metric
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
    "mask_semantic mask_generation mask_blend edit_sha256 inputs_sha256 note error"
).split()

KEY = ("sample_id", "attribute")
_ROUNDING = 1e-3
"""An edit's values may leave [0,1] by this much; a quarter of an 8-bit level."""


@dataclass(frozen=True)
class Parsed:
    """A photo at the working size with its parse; made once, used for every attribute.

    ``photo`` is uint8 ``[H, W, 3]``, ``labels`` int64 ``[H, W]``.
    """

    sample: FaceSample
    photo: np.ndarray
    labels: torch.Tensor
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
    """

    def __init__(
        self,
        settings: config.EditingEvaluation,
        faces,
        parser: Parser,
        editor: Editor,
        metrics: list[Metric],
        folder: Path,
    ):
        self.settings, self.faces, self.parser, self.editor, self.metrics = settings, faces, parser, editor, metrics
        self.folder = folder
        self._pool = ThreadPoolExecutor(3)
        self.rule = RegionRule(**settings.region.model_dump())
        self.log = SampleLog(folder / "samples.jsonl", KEY, still_valid(parser, editor))

    def run(self) -> None:
        """Everything that is not in the log yet."""
        attributes, done = self.settings.attributes, self.log.done
        todo = [i for i, id_ in enumerate(self.faces.ids) if any((id_, a) not in done for a in attributes)]
        total = len(self.faces) * len(attributes)
        with tqdm(total=total, initial=len(done), desc="edit", unit="edit") as bar:
            batch: list[FaceSample] = []
            for sample in read_ahead(self.faces, todo, self.settings.runtime.workers):
                batch.append(sample)
                if len(batch) == self.settings.runtime.batch_size:
                    self._batch(batch, bar)
                    batch = []
            self._batch(batch, bar)

    def _batch(self, samples: list[FaceSample], bar: tqdm) -> None:
        parsed = [p for s in samples if (p := self._parsed_or_failed(s, bar)) is not None]
        for attribute in self.settings.attributes:
            waiting = [p for p in parsed if (p.sample.id, attribute) not in self.log.done]
            for row in self._edited(waiting, attribute):
                self._keep(row, bar)

    def _keep(self, row: dict, bar: tqdm) -> None:
        self.log.append({c: row.get(c) for c in COLUMNS})
        bar.update()

    def parsed(self, sample: FaceSample) -> Parsed:
        """The photo at the working size, and its parse."""
        photo = self.at_working_size(sample.photo)
        start = time.perf_counter()
        labels = self.parser.before(sample, to_tensor(photo))
        return Parsed(sample, photo, labels, time.perf_counter() - start)

    def _parsed_or_failed(self, sample: FaceSample, bar: tqdm) -> Parsed | None:
        """``None`` if the parser failed; every open attribute of the sample then has its error recorded."""
        try:
            return self.parsed(sample)
        except Exception as e:  # one bad sample must not cost the others
            for attribute in self.settings.attributes:
                if (sample.id, attribute) not in self.log.done:
                    self._keep(self._facts(sample.id, attribute) | _failure(e), bar)
            return None

    def at_working_size(self, photo: np.ndarray) -> np.ndarray:
        """uint8 ``[H, W, 3]``: the photo as it is edited and scored."""
        size = self.settings.working_size
        if size is None or photo.shape[:2] == (size, size):
            return photo
        return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS))

    def _facts(self, sample_id: str, attribute: str) -> dict:
        s = self.settings
        seed = s.seed if s.seeds == "run" else derive_seed(s.seed, sample_id, attribute)
        words = {"prompt": s.prompts[attribute], "negative_prompt": ""}
        read = {"inputs_sha256": inputs_fingerprint(self.parser, self.editor, sample_id, attribute)}
        return {"sample_id": sample_id, "attribute": attribute, **words, "seed": seed, **read}

    def _edited(self, parsed: list[Parsed], attribute: str) -> Iterator[dict]:
        """One row a photo, each as soon as it is known: what was left alone first, then the edits."""
        waiting, requests = {}, []
        for p in parsed:
            start = time.perf_counter()
            masks = region_masks(p.labels, attribute, self.parser.label_space, self.rule)
            seconds = p.parse_s + time.perf_counter() - start
            empty = masks.coverage < MIN_COVERAGE
            row = self._facts(p.sample.id, attribute) | _mask_facts(masks, p.photo, empty)
            if empty and self.settings.protocol == "strict":
                yield row
                continue
            waiting[p.sample.id] = (row, p, seconds)
            requests.append(self._request(p, masks, row))
        for request, edit, seconds in self._made(requests):
            row, p, before_s = waiting[request.sample_id]
            row |= {"latency_s": before_s + seconds, "peak_memory_mib": _peak_memory_mib()}
            yield row | self._outcome(p, request, edit)

    def _request(self, p: Parsed, masks: RegionMasks, row: dict) -> EditRequest:
        words = {k: row[k] for k in ("attribute", "prompt", "negative_prompt", "seed")}
        return EditRequest(sample_id=p.sample.id, photo=to_tensor(p.photo), masks=masks, **words)

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

    def _outcome(self, p: Parsed, request: EditRequest, edit: torch.Tensor | Exception) -> dict:
        """Composite, parse again, measure and save; a failure's facts if something of it fails."""
        try:
            if isinstance(edit, Exception):
                raise edit
            raw = to_uint8(checked_edit(edit, request.photo))
            blend = np.rint(request.masks.blend[0].numpy() * 255).astype(np.uint8)
            final = composite(p.photo, raw, request.masks.blend[0].numpy(), self.settings.composite)
            edits = [final] if np.array_equal(raw, final) else [final, raw]
            # Encoding, final and raw side by side: each has stretches that use one core.
            png = self._pool.submit(_png, final)
            scored = list(self._pool.map(lambda edit: self._scores(p, request, edit, blend), edits))
            scores, raw_scores = scored[0], scored[-1]
        except Exception as e:  # one bad sample must not cost the others
            return _failure(e)
        write_bytes(edit_file(self.folder, request.attribute, request.sample_id), png.result())
        raw_columns = {f"{k}_raw": v for k, v in raw_scores.items()}
        facts = {"note": self._note(request), "edit_sha256": hashlib.sha256(final.tobytes()).hexdigest()[:16]}
        return scores | raw_columns | facts

    def _note(self, request: EditRequest) -> str | None:
        said = [self.editor.note(request), *(metric.note(request.prompt) for metric in self.metrics)]
        return "; ".join(filter(None, said)) or None

    def _scores(self, p: Parsed, request: EditRequest, edit: np.ndarray, blend: np.ndarray) -> dict:
        space = self.parser.label_space
        after = self.parser.after(p.sample, request.attribute, to_tensor(edit))
        pair = EditPair(
            photo=p.photo,
            edit=edit,
            blend=blend,
            before=attribute_region(p.labels, request.attribute, space),
            after=None if after is None else attribute_region(after, request.attribute, space),
            prompt=request.prompt,
        )
        return {k: v for metric in self.metrics for k, v in metric.score(pair).items()}


def _png(photo: np.ndarray) -> bytes:
    """A uint8 ``[H, W, 3]`` photo as PNG, compressed for speed."""
    return cv2.imencode(".png", photo[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def edit_file(folder: Path, attribute: str, sample_id: str) -> Path:
    """Where an edit is kept; the layout that ``editor=precomputed`` reads."""
    return folder / "edits" / attribute / f"{sample_id}.png"


def _failure(error: Exception) -> dict:
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
    hashes = {
        f"mask_{f.name}": _digest_of_mask(getattr(masks, f.name))
        for f in dataclasses.fields(masks)
        if f.name != "coverage"
    }
    size = {"width": photo.shape[1], "height": photo.shape[0]}
    return {"status": EMPTY_REGION if empty else OK, "coverage": masks.coverage, **size, **hashes}


def _digest_of_mask(mask: torch.Tensor) -> str:
    """First 16 hex digits of the SHA-256 of the mask at 8 bits, which is what all three masks are made of."""
    return hashlib.sha256(mask.mul(255).round().to(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def _peak_memory_mib() -> float:
    """Peak of the accelerator's memory where there is one, else of the process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

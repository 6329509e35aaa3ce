"""``evaluate.py task=editing``: parse, mask, edit, composite, parse again, measure, record."""

import dataclasses
import hashlib
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from semfacediff import build, config
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.composite import composite
from semfacediff.labels import attribute_indices
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.parsing import Parser
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder
from semfacediff.records.samples import EMPTY_REGION, ERROR, OK, SampleLog, write_csv, write_parquet
from semfacediff.records.summary import summarise_edits
from semfacediff.records.writing import write_bytes
from semfacediff.regions import RegionRule, attribute_region, region_masks
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.runs.prefetch import read_ahead
from semfacediff.runs.provenance import config_text, header, identity
from semfacediff.seeding import derive_seed
from semfacediff.tables.figures import overlay, panel_figure
from semfacediff.tables.text import editing_report
from semfacediff.types import FaceSample, RegionMasks, to_tensor, to_uint8

COLUMNS = (
    "sample_id attribute prompt negative_prompt seed status coverage lpips ssim iou clip psnr_outside max_abs_outside "
    "latency_s peak_memory_mib lpips_raw ssim_raw iou_raw psnr_outside_raw max_abs_outside_raw width height "
    "mask_semantic mask_generation mask_blend edit_sha256 note error"
).split()

_ROUNDING = 1e-3
"""An edit's values may leave [0,1] by this much; a quarter of an 8-bit level."""


def evaluate_editing(settings: config.EditingEvaluation, folder: Path) -> int:
    """Edit every sample's attributes and score the edits; returns 1 if one failed."""
    device = build.device(settings.runtime)
    editor, editor_facts = build.editor(settings.editor, device)
    prompts = {a: settings.prompts[a] for a in settings.attributes}
    editor.check(prompts)
    data = build.data(settings.data, labels_needed=settings.parser.name == "ground_truth", limit=settings.limit)
    parser, parser_facts = build.parser(settings.parser, data.label_space, device)
    for attribute in settings.attributes:
        attribute_indices(attribute, parser.label_space)
    metrics, absent, not_comparable = build.metrics(settings, device)
    facts = {
        "parser": parser_facts,
        "editor": editor_facts,
        "data": {"skipped": data.skipped},
        "metrics": [m.identity() for m in metrics],
        "empty_columns": absent,
        "n_expected": len(data.faces) * len(prompts),
    }
    head = header(settings, facts)
    head["not_comparable"] += not_comparable
    inputs = {"data": data.digest, "parser": parser_facts.get("digest"), "editor": editor_facts.get("digest")}
    inputs["metrics"] = facts["metrics"]
    with RunFolder(folder, identity(settings, inputs), head, config_text(settings)) as record:
        if not record.finished:
            bench = Bench(settings, data, parser, editor, metrics, folder)
            bench.run()
            bench.finish(record)
        print(editing_report(folder, config.repository()), f"record: {folder}", sep="\n")
    return 0 if record.finished else 1


@dataclass(frozen=True)
class Parsed:
    """A photo at the working size with its parse; made once, used for every attribute.

    ``photo`` is uint8 ``[H, W, 3]``, ``labels`` int64 ``[H, W]``.
    """

    sample: FaceSample
    photo: np.ndarray
    labels: torch.Tensor
    parse_s: float


class Bench:
    """The editing benchmark of one run."""

    def __init__(
        self,
        settings: config.EditingEvaluation,
        data: build.Data,
        parser: Parser,
        editor: Editor,
        metrics: list[Metric],
        folder: Path,
    ):
        self.settings, self.data, self.parser, self.editor, self.metrics = settings, data, parser, editor, metrics
        self.folder = folder
        self.rule = RegionRule(**settings.region.model_dump())
        self.log = SampleLog(folder / "samples.jsonl", ("sample_id", "attribute"))

    def run(self) -> None:
        """Everything that is not in the log yet."""
        attributes, done = self.settings.attributes, self.log.done
        todo = [i for i, id_ in enumerate(self.data.faces.ids) if any((id_, a) not in done for a in attributes)]
        total = len(self.data.faces) * len(attributes)
        with tqdm(total=total, initial=len(done), desc="edit", unit="edit") as bar:
            batch: list[FaceSample] = []
            for sample in read_ahead(self.data.faces, todo, self.settings.runtime.workers):
                batch.append(sample)
                if len(batch) == self.settings.runtime.batch_size:
                    self._batch(batch, bar)
                    batch = []
            self._batch(batch, bar)

    def _batch(self, samples: list[FaceSample], bar: tqdm) -> None:
        parsed = [p for s in samples if (p := self._parsed(s, bar)) is not None]
        for attribute in self.settings.attributes:
            waiting = [p for p in parsed if (p.sample.id, attribute) not in self.log.done]
            for row in self._edited(waiting, attribute):
                self.log.append({c: row.get(c) for c in COLUMNS})
                bar.update()

    def _parsed(self, sample: FaceSample, bar: tqdm) -> Parsed | None:
        """``None`` if the parser failed; every open attribute of the sample then has its error recorded."""
        try:
            photo = self._at_working_size(sample.photo)
            start = time.perf_counter()
            labels = self.parser.before(sample, to_tensor(photo))
            return Parsed(sample, photo, labels, time.perf_counter() - start)
        except Exception as e:  # one bad sample must not cost the others
            for attribute in self.settings.attributes:
                if (sample.id, attribute) not in self.log.done:
                    failed = self._facts(sample.id, attribute) | {"status": ERROR, "error": f"{type(e).__name__}: {e}"}
                    self.log.append({c: failed.get(c) for c in COLUMNS})
                    bar.update()
            return None

    def _at_working_size(self, photo: np.ndarray) -> np.ndarray:
        size = self.settings.working_size
        if size is None or photo.shape[:2] == (size, size):
            return photo
        return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS))

    def _facts(self, sample_id: str, attribute: str) -> dict:
        s = self.settings
        seed = s.seed if s.seeds == "run" else derive_seed(s.seed, sample_id, attribute)
        prompt = s.prompts[attribute]
        return {"sample_id": sample_id, "attribute": attribute, "prompt": prompt, "negative_prompt": "", "seed": seed}

    def _edited(self, parsed: list[Parsed], attribute: str) -> list[dict]:
        """One row a photo, in order."""
        rows, requests, latencies = {}, [], {}
        for p in parsed:
            start = time.perf_counter()
            masks = region_masks(p.labels, attribute, self.parser.label_space, self.rule)
            latencies[p.sample.id] = p.parse_s + time.perf_counter() - start
            empty = masks.coverage < MIN_COVERAGE
            rows[p.sample.id] = self._facts(p.sample.id, attribute) | _mask_facts(masks, p.photo, empty)
            if not empty or self.settings.protocol == "thesis":
                requests.append(self._request(p, masks, rows[p.sample.id]))
        photos = {p.sample.id: p for p in parsed}
        for request, edit, seconds in self._made(requests):
            row, p = rows[request.sample_id], photos[request.sample_id]
            row |= {"latency_s": latencies[request.sample_id] + seconds, "peak_memory_mib": _peak_memory_mib()}
            row["note"] = self.editor.note(request)
            self._score(row, p, request, edit)
        return list(rows.values())

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

    def _score(self, row: dict, p: Parsed, request: EditRequest, edit: torch.Tensor | Exception) -> None:
        """Composite, save, parse again and measure; what fails is written into the row."""
        try:
            if isinstance(edit, Exception):
                raise edit
            raw = to_uint8(_checked(edit, request.photo))
            blend = np.rint(request.masks.blend[0].numpy() * 255).astype(np.uint8)
            final = composite(p.photo, raw, request.masks.blend[0].numpy(), self.settings.composite)
            scores = self._scores(p, request, final, blend)
            same = np.array_equal(raw, final)
            raw_scores = scores if same else self._scores(p, request, raw, blend)
        except Exception as e:  # one bad sample must not cost the others
            row |= {"status": ERROR, "error": f"{type(e).__name__}: {e}", "latency_s": None}
            return
        row |= scores | {f"{k}_raw": v for k, v in raw_scores.items()}
        row["edit_sha256"] = hashlib.sha256(final.tobytes()).hexdigest()[:16]
        _, png = cv2.imencode(".png", final[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        write_bytes(self.folder / "edits" / request.attribute / f"{request.sample_id}.png", png.tobytes())

    def _scores(self, p: Parsed, request: EditRequest, edit: np.ndarray, blend: np.ndarray) -> dict:
        space = self.parser.label_space
        after = self.parser.after(p.sample, request.attribute, to_tensor(edit))
        pair = EditPair(
            photo=p.photo,
            edit=edit,
            blend=blend,
            before=attribute_region(p.labels, request.attribute, space),
            after=None if after is None else attribute_region(after, request.attribute, space),
        )
        return {k: v for metric in self.metrics for k, v in metric.score(pair).items()}

    def finish(self, record: RunFolder) -> None:
        """Tables of the whole run, strips of its first samples, and its status."""
        self.log.close()
        ids, attributes = self.data.faces.ids, self.settings.attributes
        samples = self.log.table([(id_, a) for a in attributes for id_ in ids])
        write_parquet(samples, self.folder / "samples.parquet")
        write_csv(summarise_edits(samples, attributes, len(ids)), self.folder / "summary.csv")
        self._strips()
        failed = int((samples["status"] == ERROR).sum())
        notes = {
            a: g["note"].value_counts().to_dict() for a, g in samples[samples["note"].notna()].groupby("attribute")
        }
        record.close(INCOMPLETE if failed else DONE, n=len(samples) - failed, n_failed=failed, editor_notes=notes)

    def _strips(self) -> None:
        """Photo, parse, mask and edit of the first samples, a figure an attribute; and all edits side by side."""
        first = range(min(self.settings.strips, len(self.data.faces)))
        parsed = [p for i in first if (p := self._quietly_parsed(self.data.faces[i])) is not None]
        if not parsed:
            return
        space, figures, rows = self.parser.label_space, self.folder / "figures", [[] for _ in parsed]
        for p, row in zip(parsed, rows, strict=True):
            row += [("photo", p.photo), ("parse", overlay(p.photo, p.labels.numpy(), space))]
        for attribute in self.settings.attributes:
            strips = []
            for p, row in zip(parsed, rows, strict=True):
                mask = region_masks(p.labels, attribute, space, self.rule).blend[0].numpy()
                edit = self._saved(attribute, p.sample.id)
                strips.append([*row[:2], ("mask", mask), ("edit", edit)])
                row.append((attribute, edit))
            panel_figure(strips, f"{attribute}: {self.settings.prompts[attribute]}", figures / f"{attribute}.png")
        panel_figure(rows, "", figures / "overview.png")

    def _saved(self, attribute: str, sample_id: str) -> np.ndarray | None:
        """The edit as written, uint8 ``[H, W, 3]``; ``None`` where the region was empty."""
        file = self.folder / "edits" / attribute / f"{sample_id}.png"
        return cv2.imread(str(file))[..., ::-1] if file.exists() else None

    def _quietly_parsed(self, sample: FaceSample) -> Parsed | None:
        if any(r["sample_id"] == sample.id and r["status"] == ERROR for r in self.log.rows):
            return None
        photo = self._at_working_size(sample.photo)
        return Parsed(sample, photo, self.parser.before(sample, to_tensor(photo)), 0.0)


def _checked(edit: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
    """``edit``, if an editor may return it; clamping would make a plausible photo of [-1,1] or of NaN."""
    if edit.shape != photo.shape:
        raise ValueError(f"the edit is {list(edit.shape)}, its photo {list(photo.shape)}; editors keep the size")
    low, high = (x.item() for x in torch.aminmax(edit))
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"the edit has values {low:.4g}..{high:.4g}; editors return photos in [0,1]")
    return edit


def _mask_facts(masks: RegionMasks, photo: np.ndarray, empty: bool) -> dict:
    hashes = {
        f"mask_{f.name}": hashlib.sha256(getattr(masks, f.name).numpy().tobytes()).hexdigest()[:16]
        for f in dataclasses.fields(masks)
        if f.name != "coverage"
    }
    size = {"width": photo.shape[1], "height": photo.shape[0]}
    return {"status": EMPTY_REGION if empty else OK, "coverage": masks.coverage, **size, **hashes}


def _peak_memory_mib() -> float:
    """Peak of the accelerator's memory where there is one, else of the process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

"""``evaluate.py task=synthesis``: faces from label maps, judged by a parser and measured against the photos."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from semfacediff import build, config
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, conversion, space
from semfacediff.metrics.base import declared
from semfacediff.metrics.generated import Diversity, FrameSSIM
from semfacediff.metrics.inception import FEATURES
from semfacediff.metrics.photo_counts import PhotoCounts
from semfacediff.metrics.segmentation import class_scores
from semfacediff.parsing import ModelParser
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder, beside_other_data
from semfacediff.records.samples import ERROR, OK, SampleLog, write_csv, write_parquet
from semfacediff.records.tracking import tracked
from semfacediff.records.writing import write_bytes
from semfacediff.runs.acquaintance import acquaintance, training_record
from semfacediff.runs.parsing_scores import PhotoScorer
from semfacediff.runs.prefetch import read_ahead
from semfacediff.runs.processes import agreed, in_turn, processes, shared_record
from semfacediff.runs.provenance import config_text, header, identity
from semfacediff.runs.synthesis_grids import encoded_png, read_png
from semfacediff.runs.synthesis_showcase import make_showcase
from semfacediff.synthesis.checkpoint import SynthesisCard
from semfacediff.synthesis.latents import at_size
from semfacediff.synthesis.model_files import resolve_synthesis, trained_synthesis
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.tables.text import synthesis_report
from semfacediff.types import FaceSample, to_uint8

KEY = ("task", "sample_id")
PHOTO, RECONSTRUCTION, NOISE = "photo", "reconstruction", "noise"
"""Rows: what the judge says of the photo itself, and of what is generated."""
AVERAGING = "counts pooled over photos, then IoU a class, mean over classes in truth or prediction, background included"


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is measured; ``None`` or absent where it was not asked for, or its weights are not there."""

    ssim: FrameSSIM | None
    diversity: Diversity | None
    judged: bool
    of_sets: build.Metrics

    def identities(self, judge: dict, image_size: int) -> list[dict]:
        own = [m.identity() for m in (self.ssim, self.diversity) if m]
        sets = self.of_sets.sets.identities() if self.of_sets.sets else []
        sets = [s | {"input": f"8-bit RGB at {image_size} px, photos and generated photos"} for s in sets]
        return own + sets + ([_judgement(judge, image_size)] if self.judged else [])


def _judgement(judge: dict, image_size: int) -> dict:
    return declared(
        "miou, pixel_accuracy",
        implementation="semfacediff",
        version="1",
        bounds=[0, 1],
        unit="1",
        higher_is_better=True,
        resize=f"photos of {image_size} px to the parser's {judge['input_size']} px, label maps back",
        weights=judge["digest"],
        parser=judge["name"],
        averaging=AVERAGING,
    )


@dataclasses.dataclass(frozen=True)
class Judge:
    """The parser that says whether a generated photo shows its label map.

    Attributes:
        facts: as recorded. record: ``run.json`` of its training, where it is known.
    """

    parser: ModelParser
    facts: dict
    record: dict | None

    @classmethod
    def of(cls, settings: config.SynthesisEvaluation, label_space: LabelSpace, on: torch.device) -> "Judge":
        """The parser that ``parser=`` names, its labels convertible to ``label_space``.

        Raises:
            UserError: it cannot be used, cannot judge, or has classes that ``label_space`` lacks.
        """
        parser, facts = build.parser(settings.parser, label_space, on)
        if not isinstance(parser, ModelParser):
            raise UserError(
                f"task=synthesis: parser={settings.parser.name} cannot judge generated photos; drop it (the shipped "
                f"parser judges), or set parser.checkpoint=RUN"
            )
        conversion(parser.label_space, label_space)
        place = Path(build.or_shipped(settings.parser).checkpoint).expanduser()
        record = training_record(place, parser.card.training.get("run"))
        return cls(parser, facts | {"trained": parser.card.training}, record)


def evaluate_synthesis(settings: config.SynthesisEvaluation, folder: Path) -> int:
    """Generate from every label map and score; returns 1 if a sample failed."""
    device = build.device(settings.runtime)
    place = resolve_synthesis(settings.generation.checkpoint, "generation.checkpoint")
    model, card, digest = trained_synthesis(place)
    options, known = sampling_options(settings.generation, settings.seed), space(card.label_space)
    # Everything that can be refused cheaply comes before the photos are read.
    conversion(build.label_space(settings.data), known)
    judge, measures = Judge.of(settings, known, device), _measures(settings, device)
    data = build.data(settings.data, limit=settings.limit)
    made = {"name": "sca_dm", "digest": digest, "trained": card.training, "guidance": options.scale}
    made["judged_photos"] = acquaintance(
        training_record(place, card.training.get("run")), settings.data, data.faces.ids
    )
    facts = _facts(settings, data, card, judge, measures) | {"generation": made | {"steps": settings.generation.steps}}
    head = header(settings, facts)
    head["not_comparable"] += measures.of_sets.doubts
    if not card.training:
        head["not_comparable"].append("the model was never trained: its card names no training")
    inputs = {"data": data.digest, "parser": judge.facts["digest"], "generation": digest}
    inputs["metrics"] = {m["metric"]: m for m in facts["metrics"]}
    state = processes(device)
    folder = agreed(state, beside_other_data(folder, identity(settings, inputs)))
    synthesizer = Synthesizer(model.to(device), options, known, data.label_space)
    bench = SynthesisBench(settings, data.faces, synthesizer, judge.parser, measures, folder)

    def opened() -> RunFolder:
        return RunFolder(folder, identity(settings, inputs), head, config_text(settings))

    with shared_record(state, folder, opened) as (record, finished):
        if record is None:
            if not finished:
                _run(bench, None, state)
            return 0
        with tracked(record, settings.tracking.model_dump(), settings.name):
            if not finished:
                log = SampleLog(folder / "samples.jsonl", KEY)
                _run(bench, log, state)
                _finish(record, bench, log)
            print(synthesis_report(folder), f"record: {folder}", sep="\n")
    return 0 if record.finished else 1


def _facts(
    settings: config.SynthesisEvaluation, data: build.Data, card: SynthesisCard, judge: Judge, measures: Measures
) -> dict:
    """What the record says of the judge, the data and how numbers come about."""
    size = card.options.image_size
    measured = {"resolution_px": size, "split": settings.data.split, "parser": judge.facts["name"]}
    seen = {"judged_photos": acquaintance(judge.record, settings.data, data.faces.ids)}
    return {
        "parser": judge.facts | seen,
        "measured": measured | {"averaging": AVERAGING, "label_space": card.label_space},
        "data": {"skipped": data.skipped},
        "metrics": measures.identities(judge.facts, size),
        "empty_columns": measures.of_sets.absent,
        "n_expected": data.n_expected,
    }


def sampling_options(g: config.GenerationConfig, seed: int) -> SamplingOptions:
    """How the run samples; a :class:`UserError` for step counts that the schedule cannot give."""
    names = ("steps", "sampler", "eta", "spacing", "guidance", "guidance_form")
    options = SamplingOptions(**{name: getattr(g, name) for name in names}, seed=seed)
    for steps in g.latency_steps:
        dataclasses.replace(options, steps=steps, sampler="ddim")
    return options


def _measures(settings: config.SynthesisEvaluation, device: torch.device) -> Measures:
    asked, diversity = settings.metrics.columns, settings.generation.diversity_samples > 1
    wanted = [
        c for c in asked if c in ("fid", "kid") or (c == "lpips" and diversity and NOISE in settings.generation.tasks)
    ]
    # "thesis" is LPIPS in its usual form where nothing is masked: the mean over the frame.
    chosen = {"metrics": settings.metrics.model_copy(update={"columns": wanted}), "protocol": "thesis"}
    made = build.metrics(settings.model_copy(update=chosen), device)
    absent = {"lpips_diversity" if k == "lpips" else k: why for k, why in made.absent.items()}
    lpips = next(iter(made.each), None)
    made = dataclasses.replace(made, absent=absent)
    return Measures(FrameSSIM() if "ssim" in asked else None, Diversity(lpips) if lpips else None, "iou" in asked, made)


class SynthesisBench:
    """Makes and scores photos, one sample at a time: a result depends on its own sample alone."""

    def __init__(
        self,
        settings: config.SynthesisEvaluation,
        faces,
        synthesizer: Synthesizer,
        judge: ModelParser,
        measures: Measures,
        folder: Path,
    ):
        self.settings, self.faces, self.synthesizer, self.measures = settings, faces, synthesizer, measures
        self.folder, self.size = folder, synthesizer.model.options.image_size
        self.scorer = PhotoScorer(judge, synthesizer.space)
        self.table = conversion(faces.label_space, synthesizer.space).astype(np.uint8)
        self.tasks = [*([PHOTO] if measures.judged else []), *settings.generation.tasks]

    def keys(self) -> list[tuple[str, str]]:
        """(task, id) of every row."""
        return [(task, id_) for task in self.tasks for id_ in self.faces.ids]

    def rows(self, places: Sequence[int]) -> Iterator[dict]:
        """Rows of places in :meth:`keys`."""
        n = len(self.faces)
        samples = read_ahead(self.faces, [place % n for place in places], self.settings.runtime.workers)
        for place, sample in zip(places, samples, strict=True):
            task = self.tasks[place // n]
            try:
                yield {"task": task, "sample_id": sample.id, "status": OK, **self._row(task, sample, place % n)}
            except Exception as e:  # one bad sample must not cost the others
                failed = {"status": ERROR, "error": f"{type(e).__name__}: {e}"}
                yield {"task": task, "sample_id": sample.id, **failed}

    def prepared(self, sample: FaceSample) -> tuple[np.ndarray, np.ndarray]:
        """Photo uint8 ``[S, S, 3]`` and labels uint8 ``[S, S]`` in the model's space, as the model sees them."""
        photo, labels = at_size(sample, self.size)
        return photo, self.table[labels]

    def _row(self, task: str, sample: FaceSample, place: int) -> dict:
        photo, labels = self.prepared(sample)
        start = time.perf_counter()
        made = photo if task == PHOTO else self._made(task, sample, 0)
        row = {"latency_s": None if task == PHOTO else time.perf_counter() - start}
        row["ssim"] = self.measures.ssim.score(photo, made) if self.measures.ssim and task == RECONSTRUCTION else None
        row["lpips_diversity"] = self._diversity(sample, made, place) if task == NOISE else None
        if self.measures.judged:
            counts = self.scorer.row(FaceSample(sample.id, made, labels))
            row |= {name: counts[name] for name in ("miou", "pixel_accuracy", "confusion")}
        if task != PHOTO:
            write_bytes(self.file(task, sample.id), encoded_png(made))
        return row

    def _made(self, task: str, sample: FaceSample, draw: int) -> np.ndarray:
        s = self.synthesizer
        made = s.reconstruct([sample]) if task == RECONSTRUCTION else s.generate([sample], draw)
        return to_uint8(made.images[0])

    def _diversity(self, sample: FaceSample, first: np.ndarray, place: int) -> float | None:
        g = self.settings.generation
        if self.measures.diversity is None or place >= g.diversity_photos:
            return None
        others = [self._made(NOISE, sample, draw) for draw in range(1, g.diversity_samples)]
        return self.measures.diversity.score([first, *others])

    def file(self, task: str, sample_id: str) -> Path:
        """Where a generated photo is kept."""
        return self.folder / "samples" / task / f"{sample_id}.png"

    def latencies(self) -> list[dict]:
        """Seconds for one photo of the first label map by number of steps, decoding included; one photo warms up."""
        sample, times = self.faces[0], []
        for steps in self.settings.generation.latency_steps:
            options = dataclasses.replace(self.synthesizer.options, steps=steps, sampler="ddim")
            timed = Synthesizer(self.synthesizer.model, options, self.synthesizer.space, self.faces.label_space)
            if not times:
                warm = dataclasses.replace(options, steps=1)
                Synthesizer(timed.model, warm, timed.space, self.faces.label_space).generate([sample])
            start = time.perf_counter()
            timed.generate([sample])
            seconds = time.perf_counter() - start
            taken_steps = len(options.timesteps())
            times.append({"steps": taken_steps, "seconds": seconds, "seconds_per_step": seconds / taken_steps})
        return times


def _run(bench: SynthesisBench, log: SampleLog | None, state) -> None:
    keys = bench.keys()
    missing = [i for i, key in enumerate(keys) if key not in log.done] if log else None
    todo = agreed(state, missing)
    with tqdm(
        total=len(keys), initial=len(keys) - len(todo), desc="generate", unit="photo", disable=log is None
    ) as bar:
        for row in in_turn(state, todo, bench.rows):
            if log:
                log.append(row)
                bar.update()


def _finish(record: RunFolder, bench: SynthesisBench, log: SampleLog) -> None:
    samples = log.finish(bench.keys())
    failed = int((samples["status"] == ERROR).sum())
    sets, notes = _sets(bench, log.rows)
    summary = pd.DataFrame([_summary(task, log.rows, bench) | sets.get(task, {}) for task in bench.tasks])
    write_parquet(samples, record.path / "samples.parquet")
    write_csv(summary, record.path / "summary.csv")
    _show(bench, log)
    latency = bench.latencies() if bench.settings.generation.latency_steps else []
    n = len(bench.faces)
    status = INCOMPLETE if failed else DONE
    record.close(status, n=n, n_failed=failed, set_notes=notes, latency=latency)


def _show(bench: SynthesisBench, log: SampleLog) -> None:
    """Pictures of the first label maps, less those that failed."""
    failed = {row["sample_id"] for row in log.rows if row["status"] == ERROR}
    first = enumerate(bench.faces.ids[: bench.settings.generation.showcase])
    shown = [bench.faces[i] for i, id_ in first if id_ not in failed]
    faces = [FaceSample(face.id, *bench.prepared(face)) for face in shown]
    of_model = Synthesizer(bench.synthesizer.model, bench.synthesizer.options, bench.synthesizer.space)
    make_showcase(bench.folder, of_model, faces, bench.file)


def _summary(task: str, rows: Sequence[dict], bench: SynthesisBench) -> dict:
    """One row of ``summary.csv``; fractions 0..1, standard deviations with ddof 1."""
    mine = [row for row in rows if row["task"] == task and row["status"] == OK]
    found: dict = {"task": task, "n": len(mine)}
    for name in ("ssim", "lpips_diversity"):
        values = pd.Series([row[name] for row in mine], dtype=float).dropna()
        found |= {f"{name}_mean": values.mean(), f"{name}_sd": values.std(), f"{name}_n": len(values)}
    if bench.measures.judged and mine:
        classes = bench.synthesizer.space.classes
        counts = PhotoCounts.of(mine, len(classes))
        table = class_scores(counts.confusion, classes, counts.images).set_index("class")
        found |= {"miou": table.at["miou", "iou"], "miou_no_background": table.at["miou_no_background", "iou"]}
        found |= {"pixel_accuracy": table.at["pixel_accuracy", "recall"], "image_miou_mean": counts.miou.mean()}
    return found


def _sets(bench: SynthesisBench, rows: Sequence[dict]) -> tuple[dict[str, dict], list[str]]:
    """(task -> FID and KID, notes): photos against what was made of their label maps, from the files on the disk."""
    sets = bench.measures.of_sets.sets
    if sets is None:
        return {}, []
    done = {(row["task"], row["sample_id"]) for row in rows if row["status"] == OK}
    place = {id_: i for i, id_ in enumerate(bench.faces.ids)}
    tasks = [task for task in bench.tasks if task != PHOTO]
    ids = [id_ for id_ in bench.faces.ids if all((task, id_) in done for task in tasks)]
    shown = (bench.prepared(bench.faces[place[id_]])[0] for id_ in ids)
    photos = _features(sets, tqdm(shown, "features", len(ids), unit="photo", leave=False))
    found, notes = {}, []
    for task in tasks:
        made = (_read(bench.file(task, id_)) for id_ in ids)
        values, why = sets.score(photos, _features(sets, tqdm(made, "features", len(ids), unit="photo", leave=False)))
        found[task] = values
        notes += [f"{', '.join(c for c in sets.columns if c not in values)} of {task}: empty, {why}"] if why else []
    return found, notes + [text for text in (sets.name(len(ids)), sets.warning(len(ids))) if text]


def _features(sets, photos) -> np.ndarray:
    """float32 ``[N, 2048]``."""
    return np.array(list(sets.network.features(photos)), np.float32).reshape(-1, FEATURES)


def _read(file: Path) -> np.ndarray:
    if (photo := read_png(file)) is None:
        raise UserError(f"{file}: a generated photo that was scored is gone; start in a new folder")
    return photo

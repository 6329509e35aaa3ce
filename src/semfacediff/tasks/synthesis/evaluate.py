"""``evaluate.py task=synthesis``: faces from label maps, judged by a parser and measured against the photos."""

import dataclasses
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.opening import label_space_of, open_data
from semfacediff.data.selection import Data
from semfacediff.engine.devices import choose_device
from semfacediff.engine.processes import agreed, in_turn, processes, shared_record
from semfacediff.engine.provenance import config_text, header, identity
from semfacediff.engine.shards import shard_of
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, conversion, space
from semfacediff.metrics.generated import Diversity, FrameSSIM
from semfacediff.metrics.opening import open_metrics
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.parsing import ModelParser
from semfacediff.parsing.opening import open_parser, or_shipped
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder, beside_other_data
from semfacediff.records.legacy_metrics import compared
from semfacediff.records.samples import ERROR, OK, SampleLog, failure_facts
from semfacediff.records.showcase import NOISE
from semfacediff.records.tracking import tracked
from semfacediff.synthesis.checkpoint import SynthesisCard
from semfacediff.synthesis.model_files import resolve_synthesis, trained_synthesis
from semfacediff.synthesis.sampling import SamplingOptions, ddim_timesteps
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.tables.text import synthesis_report
from semfacediff.tasks.editing.set_metrics import measured_sets
from semfacediff.tasks.synthesis.bench import AVERAGING, Measures, SynthesisBench
from semfacediff.tasks.synthesis.showcase import make_showcase
from semfacediff.tasks.synthesis.tables import KEY, write_synthesis_tables
from semfacediff.tasks.synthesis.train_test_overlap import train_test_overlap, training_record
from semfacediff.types import FaceSample


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
        parser, facts = open_parser(settings.parser, label_space, on)
        if not isinstance(parser, ModelParser):
            raise UserError(
                f"task=synthesis: parser={settings.parser.name} cannot judge generated photos; drop it (the shipped "
                f"parser judges), or set parser.checkpoint=RUN"
            )
        conversion(parser.label_space, label_space)
        place = or_shipped(settings.parser).checkpoint
        record = training_record(Path(place).expanduser(), parser.card.training.get("run")) if place else None
        return cls(parser, facts | {"trained": parser.card.training}, record)


def evaluate_synthesis(settings: config.SynthesisEvaluation, folder: Path) -> int:
    """Generate from every label map and score; returns 1 if a sample failed."""
    device = choose_device(settings.runtime)
    state = processes(device)
    place = resolve_synthesis(settings.synthesis.checkpoint, "synthesis.checkpoint")
    model, card, digest = trained_synthesis(place)
    options, known = sampling_options(settings.synthesis, settings.seed), space(card.label_space)
    # Everything that can be refused cheaply comes before the photos are read.
    conversion(label_space_of(settings.data), known)
    judge, measures = Judge.of(settings, known, device), _measures(settings, device)
    whole = open_data(settings.data, limit=settings.limit)
    data, part = shard_of(whole, settings.shard)
    made = {"name": "sca_dm", "digest": digest, "trained": card.training, "guidance": options.scale}
    seen = train_test_overlap(training_record(place, card.training.get("run")), settings.data, whole.faces.ids)
    made |= {"judged_photos": seen, "steps": settings.synthesis.steps}
    facts = _facts(settings, whole, card, judge, measures) | {"generation": made, "n_expected": data.n_expected, **part}
    head = header(settings, facts)
    head["not_comparable"] += measures.of_sets.doubts
    if not card.training:
        head["not_comparable"].append("the model was never trained: its card names no training")
    inputs = {"data": data.digest, "parser": judge.facts["digest"], "generation": digest}
    inputs["metrics"] = {m["metric"]: compared(m) for m in facts["metrics"]}
    folder = agreed(state, beside_other_data(folder, identity(settings, inputs)))
    precision = getattr(torch, settings.synthesis.precision)
    model = model.for_sampling(device, precision, settings.runtime.diffusion.compile)
    synthesizer = Synthesizer(model, options, known, data.label_space)
    bench = SynthesisBench(settings, whole.faces, data.faces.ids, synthesizer, judge.parser, measures, folder)

    def opened() -> RunFolder:
        return RunFolder(folder, identity(settings, inputs), head, config_text(settings))

    with shared_record(state, folder, identity(settings, inputs), opened) as (record, finished):
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
    settings: config.SynthesisEvaluation, data: Data, card: SynthesisCard, judge: Judge, measures: Measures
) -> dict:
    """What the record says of the judge, the data and how numbers come about: of all data, also in a part's record."""
    size = card.options.image_size
    measured = {"resolution_px": size, "split": settings.data.split, "parser": judge.facts["name"]}
    seen = {"judged_photos": train_test_overlap(judge.record, settings.data, data.faces.ids)}
    return {
        "parser": judge.facts | seen,
        "measured": measured | {"averaging": AVERAGING, "label_space": card.label_space},
        "data": {"skipped": data.skipped},
        "metrics": measures.identities(judge.facts, size),
        "empty_columns": measures.of_sets.absent,
    }


def sampling_options(g: config.SynthesisEvaluationConfig, seed: int) -> SamplingOptions:
    """How the run samples; a :class:`UserError` for step counts that the schedule cannot give."""
    names = ("steps", "sampler", "eta", "spacing", "guidance", "guidance_form")
    more = "synthesis.spacing=compatible"
    if g.sampler == "ddim":
        every = "synthesis.sampler=ddpm synthesis.steps=1000"
        ddim_timesteps(g.steps, g.spacing, "synthesis.steps", every, more)
    for steps in g.latency_steps:
        ddim_timesteps(steps, g.spacing, "synthesis.latency_steps", more=more)
    return SamplingOptions(**{name: getattr(g, name) for name in names}, seed=seed)


def _measures(settings: config.SynthesisEvaluation, device: torch.device) -> Measures:
    asked, diversity = settings.metrics.columns, settings.synthesis.diversity_samples > 1
    wanted = [
        c for c in asked if c in ("fid", "kid") or (c == "lpips" and diversity and NOISE in settings.synthesis.tasks)
    ]
    # "thesis" is LPIPS in its usual form where nothing is masked: the mean over the frame.
    chosen = {"metrics": settings.metrics.model_copy(update={"columns": wanted}), "protocol": "thesis"}
    made = open_metrics(settings.model_copy(update=chosen), device)
    absent = {"lpips_diversity" if k == "lpips" else k: why for k, why in made.absent.items()}
    lpips = next((metric for metric in made.each if isinstance(metric, LPIPS)), None)
    made = dataclasses.replace(made, absent=absent)
    return Measures(FrameSSIM() if "ssim" in asked else None, Diversity(lpips) if lpips else None, "iou" in asked, made)


def _run(bench: SynthesisBench, log: SampleLog | None, state: PartialState) -> None:
    keys = bench.keys()
    missing = [i for i, key in enumerate(keys) if key not in log.done] if log else None
    todo = agreed(state, missing)
    with tqdm(
        total=len(keys), initial=len(keys) - len(todo), desc="generate", unit="photo", disable=log is None or None
    ) as bar:
        for row in in_turn(state, todo, bench.rows):
            if log:
                log.append(row)
                bar.update()


def _finish(record: RunFolder, bench: SynthesisBench, log: SampleLog) -> None:
    samples = log.finish(bench.keys())
    sets, notes = _sets(bench, samples)
    write_synthesis_tables(record.path, samples, sets, bench.synthesizer.space if bench.measures.judged else None)
    if bench.begins:
        _show(bench, samples)
    latency = bench.latencies() if bench.begins else []
    failures = failure_facts(samples)
    status = INCOMPLETE if failures["n_failed"] else DONE
    record.close(status, n=len(bench.ids), **failures, set_notes=notes, latency=latency)


def _sets(bench: SynthesisBench, samples: pd.DataFrame) -> tuple[dict[str, dict], list[str]]:
    """(task -> FID and KID, notes): photos against what was made of their label maps."""
    sets = bench.measures.of_sets.sets
    if sets is None:
        return {}, []
    good = samples[samples["status"] == OK]
    tasks = bench.settings.synthesis.tasks
    made: dict[str, list[str]] = {task: good.loc[good["task"] == task, "sample_id"].tolist() for task in tasks}
    return measured_sets(sets, bench.folder, bench.ids, made, bench.photos, bench.saved)


def _show(bench: SynthesisBench, samples: pd.DataFrame) -> None:
    """Pictures of the first label maps of all, less those that failed."""
    failed = set(samples.loc[samples["status"] == ERROR, "sample_id"])
    first = enumerate(bench.faces.ids[: bench.settings.synthesis.showcase])
    shown = [bench.faces[i] for i, id_ in first if id_ not in failed]
    faces = [FaceSample(face.id, *bench.prepared(face)) for face in shown]
    of_model = Synthesizer(bench.synthesizer.model, bench.synthesizer.options, bench.synthesizer.space)
    make_showcase(bench.folder, of_model, faces, bench.scored)

"""``evaluate.py task=parsing``: parse every photo, count against the labels, keep the record."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from accelerate import PartialState
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.opening import label_space_of, open_data
from semfacediff.data.selection import Data
from semfacediff.data.sizes import resized_labels
from semfacediff.engine.devices import choose_device
from semfacediff.engine.prefetch import in_order, one_core_each, read_ahead
from semfacediff.engine.processes import agreed, in_turn, processes, shared_record
from semfacediff.engine.provenance import config_text, header, identity
from semfacediff.engine.shards import shard_of
from semfacediff.errors import UserError
from semfacediff.metrics.face_facts import face_facts
from semfacediff.parsing import GroundTruthParser, Parser
from semfacediff.parsing.opening import open_parser
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder, beside_other_data
from semfacediff.records.samples import ERROR, SampleLog, failure_facts, refuse_changed_inputs, table_of
from semfacediff.records.strata import OF_FACES
from semfacediff.records.tracking import tracked
from semfacediff.tables.drawing import save_figure
from semfacediff.tables.parsing_figures import Strip, draw_scores, strip_figure
from semfacediff.tables.text import parsing_report
from semfacediff.tasks.parsing.scores import PhotoScorer, landmark_facts, scores_identity, speed_facts, write_scores
from semfacediff.tasks.strata_report import check_strata, of_run
from semfacediff.types import FaceSample

KEY = ("sample_id",)


def evaluate_parsing(settings: config.ParsingEvaluation, folder: Path) -> int:
    """Score a parser as ``protocol`` says; returns 1 if a sample failed."""
    device = choose_device(settings.runtime)
    state = processes(device)
    parser, parser_facts = open_parser(settings.parser, label_space_of(settings.data), device)
    if isinstance(parser, GroundTruthParser):
        raise UserError("task=parsing: ground_truth would be scored against itself; set parser.checkpoint=FOLDER")
    data, part = shard_of(open_data(settings.data, limit=settings.limit), settings.shard)
    check_strata(settings.stratify, data.faces[0].attributes, OF_FACES)
    scorer = PhotoScorer(parser, data.label_space, settings.protocol)
    facts = {
        "parser": parser_facts,
        "data": {"skipped": data.skipped},
        "n_expected": data.n_expected,
        "metrics": scores_identity(scorer, settings.seed, len(data.faces)),
        **part,
    }
    inputs = {"data": data.digest, "parser": parser_facts.get("digest")}
    folder = agreed(state, beside_other_data(folder, identity(settings, inputs)))

    def opened() -> RunFolder:
        return RunFolder(folder, identity(settings, inputs), header(settings, facts), config_text(settings))

    with shared_record(state, folder, identity(settings, inputs), opened) as (record, finished):
        if record is None:
            if not finished:
                _score_all(data, scorer, None, settings.runtime, state)
            return 0
        with tracked(record, settings.tracking.model_dump(), settings.name):
            still_valid = _still_valid(parser)
            if finished:
                refuse_changed_inputs(folder / "samples.jsonl", KEY, still_valid)
            else:
                # Rows of a version that looked at less cannot be continued with those of this one.
                log = SampleLog(folder / "samples.jsonl", KEY, lambda row: "pose_proxy" in row and still_valid(row))
                _score_all(data, scorer, log, settings.runtime, state)
                _finish(record, log, data, scorer, settings.seed)
            by_group = [of_run(folder, by) for by in settings.stratify]
            print(parsing_report(folder), *by_group, f"record: {folder}", sep="\n")
    return 0 if record.finished else 1


def _still_valid(parser: Parser) -> Callable[[dict], bool]:
    return lambda row: row["inputs_sha256"] == parser.fingerprint(row["sample_id"], None)


def _score_all(
    data: Data, scorer: PhotoScorer, log: SampleLog | None, runtime: config.RuntimeConfig, state: PartialState
) -> None:
    """Rows of all photos that the log lacks; made by all processes, logged by the one that has the log."""
    missing = [i for i, id_ in enumerate(data.faces.ids) if (id_,) not in log.done] if log else None
    todo = agreed(state, missing)

    def rows(indices: Sequence[int]) -> Iterator[dict]:
        samples = read_ahead(data.faces, indices, runtime.decoders)
        with one_core_each(runtime.overlap) as (pool, ahead):
            yield from in_order(pool, lambda sample: _row(scorer, sample), samples, ahead)

    done, total = len(data.faces) - len(todo), len(data.faces)
    for row in tqdm(
        in_turn(state, todo, rows), "parse", total, initial=done, unit="photo", disable=log is None or None
    ):
        if log:
            log.append(row)


def _row(scorer: PhotoScorer, sample: FaceSample) -> dict:
    try:
        labels = resized_labels(sample.label_map, sample.photo.shape[:2])
        row = scorer.row(sample) | face_facts(sample, sample.photo, labels, scorer.space)
    except Exception as e:  # one bad sample must not cost the others
        row = {"sample_id": sample.id, "status": ERROR, "error": f"{type(e).__name__}: {e}"}
    return row | {"inputs_sha256": scorer.parser.fingerprint(sample.id, None)}


def _finish(record: RunFolder, log: SampleLog, data: Data, scorer: PhotoScorer, seed: int) -> None:
    log.finish([(id_,) for id_ in data.faces.ids])
    rows = log.rows
    failures = failure_facts(table_of(rows))
    failed = failures["n_failed"]
    write_scores(rows, data.label_space, scorer.protocol, seed, record.path)
    ours = f"{record.facts['parser']['name']}, {len(rows) - failed} photos"
    draw_scores(record.path, record.path / "figures", config.repository(), ours, scorer.protocol)
    _draw_strips(rows, data, scorer, record.path / "figures")
    facts = {"n": len(rows) - failed, **failures, **landmark_facts(rows), **speed_facts(scorer.parser)}
    record.close(INCOMPLETE if failed else DONE, **facts)


def best_median_worst(rows: list[dict]) -> dict[str, dict]:
    """Title -> row of the photo with the highest, the middle and the lowest mIoU of its own; ties by id.

    Fewer than three where there are fewer photos.
    """
    ranked = sorted((r for r in rows if r["status"] != ERROR), key=lambda r: (-r["miou"], r["sample_id"]))
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen: dict[int, str] = {}
    for title, place in places.items():
        if ranked:
            chosen.setdefault(place, title)
    return {title: ranked[place] for place, title in chosen.items()}


def _draw_strips(rows: list[dict], data: Data, scorer: PhotoScorer, figures: Path) -> None:
    """``figures/strips.png`` and ``.pdf``: they show photos, so they stay out of published records."""
    place = {id_: i for i, id_ in enumerate(data.faces.ids)}
    strips = []
    for title, row in best_median_worst(rows).items():
        sample = data.faces[place[row["sample_id"]]]
        photo, truth, predicted = scorer.parsed(sample)
        strips.append(Strip(f"{title}: {sample.id}\nmIoU {100 * row['miou']:.1f} %", photo, truth, predicted))
    if strips:
        save_figure(strip_figure(strips, data.label_space), figures / "strips")

"""``evaluate.py task=parsing``: parse every photo, count against the labels, keep the record."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from semfacediff import build, config
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, conversion
from semfacediff.metrics.segmentation import class_scores, confusion_matrix, mean_iou
from semfacediff.parsing import GroundTruthParser, Parser
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder
from semfacediff.records.samples import ERROR, OK, SampleLog, refuse_changed_inputs, write_csv, write_parquet
from semfacediff.records.tracking import tracked
from semfacediff.runs.prefetch import read_ahead
from semfacediff.runs.provenance import config_text, header, identity
from semfacediff.tables.text import parsing_report
from semfacediff.types import FaceSample, to_tensor

KEY = ("sample_id",)


def evaluate_parsing(settings: config.ParsingEvaluation, folder: Path) -> int:
    """Score a parser at the labels' own size; returns 1 if a sample failed."""
    if settings.protocol != "strict":
        raise UserError(f"task=parsing: protocol={settings.protocol} scores edits; use protocol=strict")
    device = build.device(settings.runtime)
    parser, parser_facts = build.parser(settings.parser, build.label_space(settings.data), device)
    if isinstance(parser, GroundTruthParser):
        raise UserError("task=parsing: ground_truth would be scored against itself; set parser.checkpoint=FOLDER")
    data = build.data(settings.data, limit=settings.limit)
    to_data = conversion(parser.label_space, data.label_space)
    facts = {"parser": parser_facts, "data": {"skipped": data.skipped}, "n_expected": data.n_expected}
    inputs = {"data": data.digest, "parser": parser_facts.get("digest")}
    with (
        RunFolder(folder, identity(settings, inputs), header(settings, facts), config_text(settings)) as record,
        tracked(record, settings.tracking.model_dump(), settings.name),
    ):
        still_valid = _still_valid(parser)
        if record.finished:
            refuse_changed_inputs(folder / "samples.jsonl", KEY, still_valid)
        else:
            log = SampleLog(folder / "samples.jsonl", KEY, still_valid)
            _score_all(data, parser, to_data, log, settings.runtime.workers)
            _finish(record, log, data, folder)
        print(parsing_report(folder), f"record: {folder}", sep="\n")
    return 0 if record.finished else 1


def _still_valid(parser: Parser) -> Callable[[dict], bool]:
    return lambda row: row["inputs_sha256"] == parser.fingerprint(row["sample_id"], None)


def _score_all(data: build.Data, parser: Parser, to_data: np.ndarray, log: SampleLog, workers: int) -> None:
    todo = [i for i, id_ in enumerate(data.faces.ids) if (id_,) not in log.done]
    bar = tqdm(read_ahead(data.faces, todo, workers), "parse", len(data.faces), initial=len(log.done), unit="photo")
    for sample in bar:
        try:
            row = _scored(sample, parser, to_data, data.label_space)
        except Exception as e:  # one bad sample must not cost the others
            row = {"sample_id": sample.id, "status": ERROR, "error": f"{type(e).__name__}: {e}"}
        row["inputs_sha256"] = parser.fingerprint(sample.id, None)
        log.append(row)


def _scored(sample: FaceSample, parser: Parser, to_data: np.ndarray, space: LabelSpace) -> dict:
    """A sample's row; its confusion matrix is kept as [true, predicted, pixels] triples, so that runs can be merged."""
    predicted = to_data[_at_label_size(sample, parser).numpy()]
    confusion = confusion_matrix(sample.labels, predicted, space.n)
    counts = [[int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)]
    accuracy = float(np.trace(confusion) / confusion.sum())
    scores = {"miou": mean_iou(confusion), "pixel_accuracy": accuracy}
    return {"sample_id": sample.id, "status": OK, **scores, "confusion": counts, "error": None}


def _at_label_size(sample: FaceSample, parser: Parser) -> torch.Tensor:
    photo = to_tensor(sample.photo)
    if hasattr(parser, "predict"):  # a network's logits are resized before argmax, labels only if there is nothing else
        return parser.predict(photo[None], sample.labels.shape)[0]
    return parser.before(sample, torch.empty(3, *sample.labels.shape))


def pooled(rows: list[dict], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Confusion int64 ``[n, n]`` and images a class occurs in ``[n]``, from sample rows."""
    confusion, images = np.zeros((n, n), np.int64), np.zeros(n, np.int64)
    for row in rows:
        triples = np.array(row.get("confusion") or np.empty((0, 3)), dtype=np.int64).reshape(-1, 3)
        confusion[triples[:, 0], triples[:, 1]] += triples[:, 2]
        images[np.unique(triples[:, 0])] += 1
    return confusion, images


def _finish(record: RunFolder, log: SampleLog, data: build.Data, folder: Path) -> None:
    samples = log.finish([(id_,) for id_ in data.faces.ids])
    failed = sum(row["status"] == ERROR for row in log.rows)
    confusion, images = pooled(log.rows, data.label_space.n)
    write_parquet(samples, folder / "samples.parquet")
    write_csv(class_scores(confusion, data.label_space.classes, images), folder / "summary.csv")
    record.close(INCOMPLETE if failed else DONE, n=len(log.rows) - failed, n_failed=failed)

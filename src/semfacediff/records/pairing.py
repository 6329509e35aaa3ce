"""Runs of the same photos under different settings: what may be compared, and what differs between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from semfacediff.errors import UserError
from semfacediff.records.columns import read_table
from semfacediff.records.folder import DONE, differences, read_run
from semfacediff.records.idle import with_idle
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.legacy_metrics import compared
from semfacediff.records.samples import ERROR

STRATIFIED = ("editing", "parsing")
"""Tasks whose rows say what is needed to tell groups of faces apart."""
ALL_CLASSES = "all classes"
MEASURE = {
    "working_size": "both are measured at their own size",
    "region": "what counts as outside differs, and so does the ring on which seams are measured",
}
"""Settings that change what is measured along with the edit."""


@dataclass(frozen=True)
class PairedRuns:
    """Two runs that may be compared.

    Attributes:
        runs: ``run.json`` of both.
        samples: their scored rows.
        directions: score -> whether higher is better (``None``: neither, or the record does not say), of the scores
            that both measured alike.
        settings: "key was x, now y" for everything that differs in the two configurations.
        notes: what to know before reading the differences.
    """

    runs: tuple[dict, dict]
    samples: tuple[pd.DataFrame, pd.DataFrame]
    directions: dict[str, bool | None]
    settings: list[str]
    notes: list[str]


@dataclass(frozen=True)
class ComparedRuns:
    """Any number of runs that may be compared.

    Attributes:
        runs: name (the run's id, and its folder where two have one) -> ``run.json``. samples: name -> scored rows.
        directions: score -> whether higher is better, of the scores that all measured alike.
    """

    runs: Mapping[str, dict]
    samples: Mapping[str, pd.DataFrame]
    directions: Mapping[str, bool | None]


def scored_samples(
    folder: Path, tasks: Sequence[str] = ("editing",), doubtful: bool = False
) -> tuple[dict, pd.DataFrame]:
    """(``run.json``, rows that were scored) of a run of one of ``tasks``.

    Raises:
        UserError: it is a run of another task, unfinished, or not comparable and no ``doubtful`` one is wanted.
    """
    run = read_run(folder)
    if run.get("task") not in tasks:
        wanted = " or ".join(f"task={task}" for task in tasks)
        raise UserError(f"{folder}: expected a run of {wanted}, got task={run.get('task')}; name another run")
    if run["status"] != DONE:
        raise UserError(f"{folder}: status {run['status']}; repeat its command until it is done")
    if run["not_comparable"] and not doubtful:
        raise UserError(f"{folder}: not comparable ({'; '.join(run['not_comparable'])}); make it without that")
    refuse_changed(folder, run)
    needed = ("attribute", "latency_s") if run["task"] == "editing" else ()
    return run, scored(read_table(folder / "samples.parquet", *needed))


def scored(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows that were scored, in :func:`by_stage`; edits of empty regions and failed samples were not.

    Of a parser's run a row is a photo; its ``attribute`` is :data:`ALL_CLASSES`. Edits that changed nothing are
    marked (:func:`semfacediff.records.idle.with_idle`).
    """
    good = samples[samples["status"] != ERROR]
    if "attribute" not in good:
        return good.assign(attribute=ALL_CLASSES)
    return by_stage(with_idle(good[good["latency_s"].notna()]))


def by_stage(samples: pd.DataFrame) -> pd.DataFrame:
    """Rows whose ``attribute`` is ``<stage>_<attribute>`` where they are of a cascade, which may edit one twice."""
    if "stage" not in samples:
        return samples
    return samples.assign(attribute=samples["stage"].astype(int).astype(str) + "_" + samples["attribute"])


def directions(run: dict) -> dict[str, bool | None]:
    """Score -> whether higher is better, from the identities of a run's metrics; ``None`` where they do not say.

    ``*_raw`` columns, which score the edit before the composite, and the same with its motion undone
    (``*_raw_registered``) have the direction of theirs.
    """
    found = {}
    for metric in run.get("metrics", []):
        of_all = metric.get("higher_is_better")
        for column in metric["metric"].split(", "):
            found[column] = of_all.get(column) if isinstance(of_all, dict) else of_all
    twins = {f"{column}{suffix}": up for suffix in ("_raw", "_raw_registered") for column, up in found.items()}
    return found | twins


def numeric_scores(samples: pd.DataFrame, known: dict[str, bool | None]) -> dict[str, bool | None]:
    """The scores of ``known`` that the table holds as numbers, in the order of ``known``."""
    return {c: up for c, up in known.items() if c in samples and pd.api.types.is_numeric_dtype(samples[c])}


def paired_runs(first: Path, second: Path) -> PairedRuns:
    """Both runs, if they may be compared photo by photo.

    Raises:
        UserError: one is unfinished or not comparable, they are the same run, saw other data, follow another protocol,
            measured a metric in another way, or have no attribute or score in common.
    """
    if first.resolve() == second.resolve():
        raise UserError(f"compare: {first} was named twice; name two runs")
    (a, rows_a), (b, rows_b) = (scored_samples(folder) for folder in (first, second))
    refuse_other_measurement(first, a, second, b)
    common = numeric_scores(rows_a, directions(a))
    shared = {c: up for c, up in numeric_scores(rows_b, directions(b)).items() if c in common}
    if not shared:
        raise UserError(f"compare: {first} and {second} have no score in common; measure one in both (metrics.columns)")
    attributes = [x for x in rows_a["attribute"].unique() if x in set(rows_b["attribute"])]
    if not attributes:
        raise UserError(f"compare: {first} and {second} have no edited attribute in common; edit one in both")
    of_a, of_b = (rows[rows["attribute"].isin(attributes)] for rows in (rows_a, rows_b))
    return PairedRuns((a, b), (of_a, of_b), shared, _settings(a, b), _notes(a, b, rows_a, rows_b))


def compared_runs(folders: Sequence[Path], doubtful: bool = False) -> ComparedRuns:
    """The runs, if all of them may be compared photo by photo.

    Args:
        doubtful: whether to take runs too that say that they are not comparable.

    Raises:
        UserError: as :func:`paired_runs`, or a run's edits were judged by another parser.
    """
    places = [folder.resolve() for folder in folders]
    if twice := [folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1]:
        raise UserError(f"compare: {twice[0]} was named twice; name each run once")
    read = [scored_samples(folder, doubtful=doubtful) for folder in folders]
    for folder, (run, _) in zip(folders[1:], read[1:], strict=True):
        refuse_other_measurement(folders[0], read[0][0], folder, run)
        refuse_other_judge(folders[0], read[0][0], folder, run)
    ids = [run["run_id"] for run, _ in read]
    names = [id_ if ids.count(id_) == 1 else str(folder) for id_, folder in zip(ids, folders, strict=True)]
    return together(dict(zip(names, read, strict=True)))


def together(read: Mapping[str, tuple[dict, pd.DataFrame]]) -> ComparedRuns:
    """Runs that :func:`refuse_other_measurement` and :func:`refuse_other_judge` let pass.

    Args:
        read: name -> (``run.json``, scored rows).

    Raises:
        UserError: they have no score or no edited attribute in common.
    """
    known = [numeric_scores(rows, directions(run)) for run, rows in read.values()]
    shared = {score: up for score, up in known[0].items() if all(score in of for of in known)}
    attributes = set.intersection(*(set(rows["attribute"]) for _, rows in read.values()))
    if not shared or not attributes:
        what = "edited attribute" if shared else "score"
        raise UserError(f"compare: {', '.join(read)} have no {what} in common; leave one out")
    samples = {name: rows[rows["attribute"].isin(attributes)] for name, (_, rows) in read.items()}
    return ComparedRuns({name: run for name, (run, _) in read.items()}, samples, shared)


def refuse_other_judge(first: Path, a: dict, second: Path, b: dict) -> None:
    """Scores of label maps are comparable only if one parser judged the edits of both runs."""
    if _judge(a) != _judge(b):
        judges = [run.get("judge") or run.get("parser") or {} for run in (a, b)]
        said = " and ".join(
            f"{j.get('name', 'unknown')} {str(_judge(run))[:8]}" for j, run in zip(judges, (a, b), strict=True)
        )
        raise UserError(
            f"compare: {first} and {second} cannot be compared: the judge is {said}; set the same judge= for both"
        )


def _judge(run: dict) -> str | None:
    """Digest of the parser that scored a run's edits."""
    inputs = run["identity"]["inputs"]
    return inputs.get("judge", inputs.get("parser"))


def refuse_other_measurement(first: Path, a: dict, second: Path, b: dict) -> None:
    """Settings may differ, that is what is compared; the photos and the way they are measured may not."""
    seen = [("protocol", *(run["identity"]["config"].get("protocol") for run in (a, b)))]
    for what, key in (("the data's digest", "data"), ("the task set's digest", "tasks")):
        seen.append((what, *(run["identity"]["inputs"].get(key) for run in (a, b))))
    of_a, of_b = ({metric["metric"]: compared(metric) for metric in run.get("metrics", [])} for run in (a, b))
    for name in sorted(of_a.keys() & of_b.keys()):
        keys = sorted(of_a[name].keys() | of_b[name].keys())
        seen += [(f"{name}.{key}", *(m[name].get(key, "not there") for m in (of_a, of_b))) for key in keys]
    for what, value_a, value_b in seen:
        if value_a != value_b:
            raise UserError(
                f"compare: {first} and {second} cannot be compared: {what} is {value_a!r} and {value_b!r}; "
                f"measure both alike"
            )


def _settings(a: dict, b: dict) -> list[str]:
    configs = differences(a["identity"]["config"], b["identity"]["config"])
    of_a, of_b = ({k: v for k, v in run["identity"]["inputs"].items() if k != "metrics"} for run in (a, b))
    return configs + [f"digest of {said}" for said in differences(of_a, of_b)]


def _notes(a: dict, b: dict, rows_a: pd.DataFrame, rows_b: pd.DataFrame) -> list[str]:
    configs = [run["identity"]["config"] for run in (a, b)]
    notes = [f"{key} differs: {why}" for key, why in MEASURE.items() if configs[0].get(key) != configs[1].get(key)]
    if _judge(a) != _judge(b):
        who = "parser" if all(run["identity"]["inputs"].get("judge") is None for run in (a, b)) else "judge"
        notes.append(
            f"the {who} differs: scores of label maps (iou, geometry_shift_pct, parts_lost) change with it too"
        )
    commits = [run.get("code", {}).get("commit") for run in (a, b)]
    if commits[0] != commits[1]:
        notes.append(f"made by different code: commits {commits[0]} and {commits[1]}")
    named = [{metric["metric"] for metric in run.get("metrics", [])} for run in (a, b)]
    edited = [set(rows["attribute"]) for rows in (rows_a, rows_b)]
    for what, (of_a, of_b) in {"measured": named, "edited": edited}.items():
        notes += [f"{what} in the first run only: {', '.join(sorted(of_a - of_b))}"] if of_a - of_b else []
        notes += [f"{what} in the second run only: {', '.join(sorted(of_b - of_a))}"] if of_b - of_a else []
    return notes

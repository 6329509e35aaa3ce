"""``semfacediff merge``: merges the records of a run's shards; the numbers equal those of one run."""

import contextlib
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from semfacediff import config
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.prompts.words import Words
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, space
from semfacediff.metrics.set_scores import SET_COLUMNS, SetScores
from semfacediff.records.features import PHOTOS, merged_features, write_features
from semfacediff.records.folder import DONE, RunFolder, differences, read_config, read_run
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.legacy_metrics import compared
from semfacediff.records.samples import iterate_rows, table_of, write_rows
from semfacediff.tables.parsing_figures import draw_scores
from semfacediff.tables.text import editing_report, parsing_report, synthesis_report
from semfacediff.tasks.editing.sample_row import row_key
from semfacediff.tasks.editing.set_metrics import scored_sets
from semfacediff.tasks.editing.tables import write_editing_tables
from semfacediff.tasks.editing.task_set import FILE as TASKS
from semfacediff.tasks.editing.task_set import read_tasks
from semfacediff.tasks.parsing.evaluate import KEY as PARSING_KEY
from semfacediff.tasks.parsing.scores import landmark_facts, write_scores
from semfacediff.tasks.synthesis.tables import KEY as SYNTHESIS_KEY
from semfacediff.tasks.synthesis.tables import write_synthesis_tables


@dataclass(frozen=True)
class _Part:
    """A finished run over every count-th sample; ``run`` is its ``run.json``, ``rows`` those of its log."""

    folder: Path
    run: dict
    rows: list[dict]

    @property
    def of(self) -> dict:
        """``index``, ``count``, ``samples`` and ``n_expected`` (the latter two of the whole)."""
        return self.run["part_of"]

    @property
    def n(self) -> int:
        """Number of its samples."""
        return len(range(self.of["index"], self.of["samples"], self.of["count"]))

    @property
    def repeats(self) -> list[int | None]:
        """Numbers of the edits of each photo and attribute; ``[None]`` where there is one."""
        n = self.run["identity"]["config"]["editor"].get("repeats", 1)
        return [None] if n == 1 else [*range(1, n + 1)]


def merge(folders: Sequence[Path], out: Path) -> int:
    """Merge finished shards, in any order, into the record that one run over all samples would have written.

    Figures that show photos are not drawn. Edits and generated photos are linked, or copied if links are unsupported,
    and so are the pictures of a synthesis run's first faces from its first shard.

    Raises:
        UserError: a shard is unfinished, changed, of another configuration, missing, or given twice.
    """
    parts = sorted((_part(folder) for folder in folders), key=lambda part: part.of["index"])
    _refuse_other_configurations(parts)
    _refuse_gaps(parts)
    first = parts[0]
    with RunFolder(out, _identity(first.run), _header(parts), _config_text(first.folder)) as record:
        if not record.finished:
            task = {"parsing": _merge_parsing, "editing": _merge_editing, "synthesis": _merge_synthesis}
            facts = task[first.run["task"]](parts, record)
            record.facts["wall_time_s"] = sum(part.run["wall_time_s"] for part in parts)
            record.close(DONE, **facts)
    print(_report(first.run["task"], out), f"record: {out}", sep="\n")
    return 0


def _report(task: str, out: Path) -> str:
    if task == "editing":
        return editing_report(out, config.repository())
    return {"parsing": parsing_report, "synthesis": synthesis_report}[task](out)


def _part(folder: Path) -> _Part:
    run = read_run(folder)
    if not run.get("part_of"):
        raise UserError(f"merge: {folder} is not a shard of a run; shards are made with shard.index=K shard.count=N")
    if run["status"] != DONE:
        raise UserError(f"merge: {folder} is {run['status']}; repeat its command until it is done: {run['command']}")
    refuse_changed(folder, run)
    part = _Part(folder, run, list(iterate_rows(folder / "samples.jsonl", _key(run))))
    wrong = len(part.rows) != run["n_expected"] if run.get("task_set") else len(part.rows) % part.n
    if not part.rows or wrong:
        raise UserError(
            f"merge: {folder / 'samples.jsonl'} has {len(part.rows)} rows for {part.n} samples; copy the shard again"
        )
    return part


def _key(run: dict) -> tuple[str, ...]:
    if run["task"] != "editing":
        return {"parsing": PARSING_KEY, "synthesis": SYNTHESIS_KEY}[run["task"]]
    return row_key(run["identity"]["config"])


def _identity(run: dict) -> dict:
    """Identity of the whole run: a shard's, without the shard."""
    plain = {key: value for key, value in run["identity"]["config"].items() if key != "shard"}
    return run["identity"] | {"config": plain}


def _refuse_other_configurations(parts: list[_Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.run["task"] != first.run["task"]:
            raise UserError(
                f"merge: {first.folder} is a shard of task={first.run['task']}, {part.folder} of "
                f"task={part.run['task']}; name shards of one run"
            )
        if part.of["count"] != first.of["count"]:
            raise UserError(
                f"merge: {first.folder} is one of {first.of['count']} shards, {part.folder} one of "
                f"{part.of['count']}; name shards of one run"
            )
        changed = differences(_measured(first.run), _measured(part.run))
        if changed:
            more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
            raise UserError(
                f"merge: {first.folder} and {part.folder} are of different configurations: {'; '.join(changed[:3])}"
                f"{more}; name shards of one run"
            )


def _measured(run: dict) -> dict:
    """Everything that the shards of one run have in common."""
    metrics = {metric["metric"]: _of_photos(compared(metric), None) for metric in run["metrics"]}
    whole = {key: run["part_of"][key] for key in ("samples", "n_expected")}
    return {"task": run["task"], "seed": run["seed"], **_identity(run), "metrics": metrics, "whole": whole}


def _of_photos(metric: dict, n: int | None) -> dict:
    """A metric's identity with ``n`` in the place of the number of photos, where it names one."""
    return metric | ({"photos": n} if "photos" in metric else {})


def _refuse_gaps(parts: list[_Part]) -> None:
    count, there = parts[0].of["count"], Counter(part.of["index"] for part in parts)
    for index in (index for index, times in there.items() if times > 1):
        both = " and ".join(str(part.folder) for part in parts if part.of["index"] == index)
        raise UserError(f"merge: {both} are both shard {index} of {count}; name each shard once")
    if missing := sorted(set(range(count)) - there.keys()):
        command = f"{_command(parts[0].run, 'shard.index=')} shard.index={missing[0]}"
        named = f"shard{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
        raise UserError(f"merge: {named} of {count} missing (counted from 0); make it with: {command}")


def _command(run: dict, *without: str) -> str:
    """The command of a run without its folder and without words that start with ``without``."""
    return shlex.join(w for w in shlex.split(run["command"]) if not w.startswith((*without, "hydra.run.dir=")))


_OF_A_SITTING = (
    "schema_version run_id status identity started finished wall_time_s photos_per_s files part_of n n_failed "
    "first_failure editor_notes set_notes"
).split()


def _header(parts: list[_Part]) -> dict:
    """Initial facts of the whole run: the first shard's, without its own provenance."""
    run = parts[0].run
    identity, whole = _identity(run), parts[0].of
    commits = {part.run["code"].get("commit") for part in parts}
    if len(commits) > 1:
        print(f"merge: the shards were made by different code: commits {', '.join(map(str, commits))}", file=sys.stderr)
    reasons = dict.fromkeys(reason for part in parts for reason in part.run["not_comparable"])
    facts = {key: value for key, value in run.items() if key not in _OF_A_SITTING}
    return facts | {
        "command": _command(run, "shard."),
        "config_digest": config.digest(identity["config"]),
        "not_comparable": [reason for reason in reasons if not reason.startswith("shard:")],
        "metrics": [_of_photos(metric, whole["samples"]) for metric in run["metrics"]],
        "n_expected": _n_expected(parts),
        "merged_from": [part.run["run_id"] for part in parts],
    }


def _n_expected(parts: list[_Part]) -> int:
    """Rows of the whole run."""
    run, of = parts[0].run, parts[0].of
    if tasks := run.get("task_set"):
        return tasks["n"] * len(parts[0].repeats)
    return of["n_expected"] * run["n_expected"] // parts[0].n


def _config_text(folder: Path) -> str:
    whole = read_config(folder) | {"shard": {"index": 0, "count": 1}}
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)


def _rows(parts: list[_Part]) -> list[dict]:
    """All rows in the order of one run: attribute by attribute, samples sorted."""
    if parts[0].run.get("task_set"):
        return _rows_of_tasks(parts)
    samples, count = parts[0].of["samples"], parts[0].of["count"]
    cells = len(parts[0].rows) // parts[0].n
    by_part = [(part.rows, part.n) for part in parts]
    places = [(*by_part[i % count], i // count) for i in range(samples)]
    return [rows[cell * n + k] for cell in range(cells) for rows, n, k in places]


def _rows_of_tasks(parts: list[_Part]) -> list[dict]:
    there = {(row["sample_id"], row["attribute"], row.get("repeat")): row for part in parts for row in part.rows}
    attributes, tasks = parts[0].run["identity"]["config"]["attributes"], read_tasks(parts[0].folder / TASKS)
    of_each = {a: [task.sample_id for task in tasks if task.attribute == a] for a in attributes}
    return [there[id_, a, repeat] for a in attributes for repeat in parts[0].repeats for id_ in of_each[a]]


def _merge_parsing(parts: list[_Part], record: RunFolder) -> dict:
    rows, run = _rows(parts), parts[0].run
    plain = run["identity"]["config"]
    write_rows(record.path / "samples.jsonl", rows)
    of_data = space(plain["data"].get("label_space", CELEBAMASK.name))
    write_scores(rows, of_data, plain["protocol"], run["seed"], record.path)
    ours = f"{run['parser']['name']}, {len(rows)} photos"
    draw_scores(record.path, record.path / "figures", config.repository(), ours, plain["protocol"])
    return {"n": len(rows), "n_failed": 0, **landmark_facts(rows)}


def _merge_editing(parts: list[_Part], record: RunFolder) -> dict:
    rows, run = _rows(parts), parts[0].run
    write_rows(record.path / "samples.jsonl", rows)
    repeats, tasks = parts[0].repeats, run.get("task_set")
    if tasks:
        shutil.copyfile(parts[0].folder / TASKS, record.path / TASKS)
        attributes = run["identity"]["config"]["attributes"]
        first: list[dict] = [{"attribute": a, "prompt": "", "repeat": r} for a in attributes for r in repeats]
    else:
        first = rows[:: parts[0].of["samples"]]
    specs = [
        EditSpec(row["attribute"], Words(row["prompt"]), stage=row.get("stage"), repeat=row.get("repeat"))
        for row in first
    ]
    counts = Counter((row["attribute"], row.get("repeat")) for row in rows)
    of_each = parts[0].of["n_expected"]
    expected = {spec.name: counts[spec.attribute, spec.repeat] if tasks else of_each for spec in specs}
    of_sets, set_notes = _sets(parts, [spec.name for spec in specs], rows, record.path)
    leaks = "leakage" in run["identity"]["config"]["metrics"]["columns"]
    labels = space(run.get("judge", run["parser"])["label_space"]) if leaks else None
    facts = write_editing_tables(record.path, table_of(rows), specs, expected, of_sets, labels)
    for part in parts:
        _link(part.folder, record.path, "edits", "edits_raw")
    return facts | {"set_notes": set_notes}


def _merge_synthesis(parts: list[_Part], record: RunFolder) -> dict:
    rows, plain = _rows(parts), parts[0].run["identity"]["config"]
    write_rows(record.path / "samples.jsonl", rows)
    of_sets, set_notes = _sets(parts, plain["generation"]["tasks"], rows, record.path)
    judged = "iou" in plain["metrics"]["columns"]
    labels = space(parts[0].run["measured"]["label_space"]) if judged else None
    write_synthesis_tables(record.path, table_of(rows), of_sets, labels)
    for part in parts:
        _link(part.folder, record.path, "samples")
    _link(parts[0].folder, record.path, "showcase", "figures")
    return {"n": parts[0].of["samples"], "n_failed": 0, "set_notes": set_notes}


@dataclass(frozen=True)
class _Recorded:
    """The network that made the features of a record: its name, without its weights."""

    weights: str

    def features(self, photos: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        raise NotImplementedError(f"{self.weights}: known by name alone")


def _sets(parts: list[_Part], names: list[str], rows: list[dict], out: Path) -> tuple[dict[str, dict], list[str]]:
    """FID and KID of the named sets from the parts' features; empty if they were not measured."""
    measured = {m["metric"]: m["weights"] for m in parts[0].run["metrics"] if m["metric"] in SET_COLUMNS}
    if not measured:
        return {}, []
    place = _places(parts, rows)
    folders = [part.folder for part in parts]
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in (PHOTOS, *names):
        there = dict(zip(*merged_features(folders, name), strict=True))
        found[name] = {id_: there[id_] for id_ in sorted(there, key=place.__getitem__)}
        write_features(out, name, list(found[name]), np.array(list(found[name].values()), np.float32))
    columns = tuple(column for column in SET_COLUMNS if column in measured)
    photos = found.pop(PHOTOS)
    return scored_sets(SetScores(columns, _Recorded(next(iter(measured.values())))), photos, found)


def _places(parts: list[_Part], rows: list[dict]) -> dict[str, int]:
    """Id of a photo -> its place in the data set."""
    if parts[0].run.get("task_set"):
        ids = dict.fromkeys(task.sample_id for task in read_tasks(parts[0].folder / TASKS))
    else:
        ids = dict.fromkeys(row["sample_id"] for row in rows[: parts[0].of["samples"]])
    return {id_: i for i, id_ in enumerate(ids)}


def _link(source: Path, target: Path, *folders: str) -> None:
    """Link the files below some folders of ``source`` into ``target``."""
    for file in (file for folder in folders for file in (source / folder).rglob("[!.]*") if file.is_file()):
        here = target / file.relative_to(source)
        here.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            try:
                os.link(file, here)
            except FileExistsError:
                raise
            except OSError:
                shutil.copyfile(file, here)

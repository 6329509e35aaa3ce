"""The table of a sweep: a row a setting, named by the keys of the configuration in which the runs differ."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.metrics.overall import EFFECT
from semfacediff.metrics.segmentation import AGGREGATES
from semfacediff.records.columns import read_table
from semfacediff.records.comparing import significantly_best
from semfacediff.records.folder import DONE, read_run
from semfacediff.records.idle import IDLE, with_idle
from semfacediff.records.integrity import refuse_changed
from semfacediff.records.ledger import finished_runs
from semfacediff.records.pairing import MEASURE, by_stage, directions, refuse_other_measurement
from semfacediff.records.samples import ERROR
from semfacediff.records.statistics import ALPHA, LEVEL, PERMUTATIONS, RESAMPLES, blocks_of, bootstrap_intervals
from semfacediff.records.trainings import against_the_best, validated
from semfacediff.tables.grid import Cell, Column, Grid, Row, Value
from semfacediff.tables.labels import parameter_labels
from semfacediff.tables.parsing_figures import of_classes
from semfacediff.tables.scores import OF_EDITS, OF_PARSERS, OF_SETS, column, edit_scores, refuse_unknown
from semfacediff.tables.text import judged_by

ALL = "all"
"""Name of the rows over all attributes together."""
ORDER, REPARSE = "order of edits", "re-parse"
"""What settings of a cascade are called."""
_UNTESTED = ("latency_s", "peak_memory_mib")
_OF_THE_MASK = ("seam", "ssim", "psnr_outside", "max_abs_outside", "lpips")
"""Measured on the rim of the region or outside it: the same edit has another value under another region."""
_KEYS = ("sample_id", "attribute", "status", "latency_s", "stage", "prompt", "kind", "toward_prompt")


@dataclass(frozen=True)
class Setting:
    """One finished run of a sweep.

    Attributes:
        values: key of the configuration -> value, for the keys in which the sweep's runs differ.
        run: ``run.json``. folder: where it lies.
    """

    values: dict[str, object]
    run: dict
    folder: Path

    @property
    def label(self) -> str:
        return ", ".join(f"{key}={spelt(value)}" for key, value in self.values.items()) or self.run["run_id"]


def spelt(value: object) -> str:
    """A value of the configuration as a user would type it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_sweep(sweep: Path) -> list[Setting]:
    """The finished runs of a sweep's folder, sorted by their values; unfinished ones are left out.

    Raises:
        UserError: a run is not comparable or was changed by hand, or two of them measured different things.
    """
    return settings_of([(read_run(folder), folder) for _, folder in finished_runs(sweep)])


def settings_of(found: Sequence[tuple[dict, Path]], doubtful: bool = False) -> list[Setting]:
    """:func:`read_sweep` of runs (``run.json``, folder); ``doubtful``: also of those that are not comparable."""
    for run, folder in found:
        refuse_changed(folder, run)
        if run["not_comparable"] and not doubtful:
            raise UserError(f"{folder}: not comparable ({'; '.join(run['not_comparable'])}); make it without that")
        if run["task"] != found[0][0]["task"]:
            raise UserError(
                f"{folder}: task={run['task']}, {found[0][1]} is of task={found[0][0]['task']}; one a sweep"
            )
        if run["task"] == "train_parser":
            _refuse_other_photos(*found[0], run, folder)
        else:
            refuse_other_measurement(found[0][1], found[0][0], folder, run)
    values = _differing([run for run, _ in found])
    settings = [Setting(v, run, folder) for v, (run, folder) in zip(values, found, strict=True)]
    return sorted(settings, key=lambda s: [_order(v) for v in s.values.values()])


def _refuse_other_photos(first: dict, first_folder: Path, run: dict, folder: Path) -> None:
    digests = [r["identity"]["inputs"].get("val") for r in (first, run)]
    if digests[0] != digests[1]:
        raise UserError(f"{folder} and {first_folder} were validated on other photos; validate all on the same ones")


def unfinished(sweep: Path) -> list[str]:
    """Names of the cells of a sweep that are not at their end."""
    return sorted(f.parent.name for f in sweep.glob("*/run.json") if read_run(f.parent)["status"] != DONE)


def _order(value: object) -> tuple:
    """Numbers by size, then words; what is off (``null``) comes first."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    return (2, 0.0, spelt(value))


def _flat(plain: dict, prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in plain.items():
        nested = isinstance(value, dict) and value
        leaves |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return leaves


def _differing(runs: Sequence[dict]) -> list[dict[str, object]]:
    """For every run the leaves of its configuration that are not the same in all of them, and its parser."""
    flat = [_flat(_readable(run)) | _parser(run) for run in runs]
    keys = sorted({key for leaves in flat for key in leaves})
    kept = [k for k in keys if len({json.dumps(leaves.get(k), sort_keys=True) for leaves in flat}) > 1]
    return [{key: leaves.get(key) for key in kept} for leaves in flat]


def named_today(plain: dict) -> dict:
    """A recorded configuration with the group that records call ``generation``, as in the first version, renamed."""
    return {"synthesis" if key == "generation" else key: value for key, value in plain.items()}


def _readable(run: dict) -> dict:
    """The configuration; a cascade by the order in which its edits were applied, which the keys tell in two ways."""
    plain = named_today(run["identity"]["config"])
    if plain.get("cascade") is None:
        return plain
    told = sorted(json.dumps(stage, ensure_ascii=False, sort_keys=True) for stage in plain["cascade"]["stages"])
    said = {ORDER: ", ".join(edit["attribute"] for edit in run["prompts"]), "edits": told}
    said[REPARSE] = "on" if plain["cascade"]["reparse"] else "off"
    return {key: value for key, value in plain.items() if key != "cascade"} | said


def _parser(run: dict) -> dict[str, object]:
    """Parser and judge, where they came from a checkpoint: the configuration does not say which."""
    digests = {who: run["identity"]["inputs"].get(who) for who in ("parser", "judge")}
    return {who: f"{run[who]['name']} {digest[:8]}" for who, digest in digests.items() if digest is not None}


def ablation_grid(sweep: Path, names: Sequence[str], command: str) -> Grid:
    """Means with 95 % intervals of every setting; bold where one is significantly better than all others.

    Args:
        sweep: folder with a folder for each run. names: scores, in the order of the columns.
        command: what makes the sweep.

    Raises:
        UserError: no finished run, runs that may not stand in one table, or a score that such runs do not have.
    """
    settings = read_sweep(sweep)
    if not settings:
        raise UserError(f"{sweep}: no finished run; make the sweep with: {command}")
    task = settings[0].run["task"]
    refuse_unknown(names, edit_scores() if task == "editing" else list(OF_PARSERS), f"task={task}")
    grid = settings_grid(settings, names)
    return replace(grid, notes=[*grid.notes, *left_out(unfinished(sweep))])


def left_out(names: Sequence[str]) -> list[str]:
    """What a table says of runs that are not at their end."""
    return [f"unfinished and left out: {', '.join(names)}; the command continues them"] if names else []


def settings_grid(settings: Sequence[Setting], names: Sequence[str]) -> Grid:
    """:func:`ablation_grid` of settings that were read already."""
    grid = (_of_edits if settings[0].run["task"] == "editing" else _of_parsers)(settings, names)
    return replace(grid, notes=[*grid.notes, *_what_else_differs(settings)])


def _labels(settings: Sequence[Setting]) -> tuple[str, ...]:
    return parameter_labels(tuple(settings[0].values)) or ("run",)


def _words(setting: Setting) -> tuple[str, ...]:
    return tuple(spelt(v) for v in setting.values.values()) or (setting.run["run_id"],)


def _what_else_differs(settings: Sequence[Setting]) -> list[str]:
    keys = {key.split(".")[0] for key in settings[0].values}
    notes = [f"{key} differs: {why}" for key, why in MEASURE.items() if key in keys]
    if "parser" in settings[0].values:
        notes.append("the parser differs: scores of label maps change with it too")
    return notes


# --------------------------------------------------------------------------------------------------------------------
# Editing.


def edit_rows(setting: Setting, names: Sequence[str]) -> pd.DataFrame:
    """Scored rows of a run, with the scores ``names`` as far as it has them (others are NaN), once more as ``all``."""
    rows = read_table(
        setting.folder / "samples.parquet", "attribute", "latency_s", columns=tuple(dict.fromkeys((*_KEYS, *names)))
    )
    rows = _by_edit(with_idle(rows[(rows["status"] != ERROR) & rows["latency_s"].notna()]))
    kept = ["sample_id", "attribute", IDLE, *names]
    rows = rows.assign(**{n: np.nan for n in names if n not in rows})[kept].astype(dict.fromkeys(names, np.float64))
    if rows["attribute"].nunique() < 2:
        return rows
    return pd.concat([rows.assign(attribute=ALL), rows], ignore_index=True)


def _by_edit(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows named by their attribute, so that cascades of other orders stand side by side; by their stage where one
    edits an attribute twice."""
    once = "stage" in rows and rows.groupby("attribute")["stage"].nunique().le(1).all()
    return rows if once else by_stage(rows)


def _of_edits(settings: Sequence[Setting], names: Sequence[str]) -> Grid:
    each = [n for n in names if n not in OF_SETS]
    samples = {s.label: edit_rows(s, list(dict.fromkeys((*each, *EFFECT)))) for s in settings}
    columns = [column(name, settings[0].run) for name in names]
    means = {label: interval_values(rows, each) for label, rows in samples.items()}
    known = directions(settings[0].run)
    known |= {n: known.get(n.removesuffix("_total")) for n in each if n.endswith("_total")}
    other_masks = any(key.startswith("region.") for key in settings[0].values)
    untested = (*_UNTESTED, *(_OF_THE_MASK if other_masks else ()))
    tested = {n: up for n in each if n.removesuffix("_raw") not in untested and (up := known.get(n)) is not None}
    best = significantly_best(samples, tested) if tested and len(settings) > 1 else {}
    of_sets = {s.label: _of_sets(s.folder) for s in settings}
    groups = _ordered({g for rows in samples.values() for g in rows["attribute"].unique()}, settings[0].run)
    sizes = {label: rows.groupby("attribute")["sample_id"].nunique() for label, rows in samples.items()}
    rows = []
    for group in groups:
        for s in settings:
            cells: list[Cell] = [Value(int(sizes[s.label].get(group, 0)))]
            for name in names:
                if name in OF_SETS:
                    cells.append(of_sets[s.label].get((group, name)))
                    continue
                value = means[s.label].get((group, name))
                won = best.get((group, name)) == s.label
                cells.append(value and Value(value.mean, low=value.low, high=value.high, best=won))
            rows.append(Row((group, *_words(s)), tuple(cells)))
    labels = ("attribute", *_labels(settings))
    return Grid(labels, (Column("n", "n"), *columns), rows, notes=_edit_notes(settings, samples, names, bool(tested)))


def _of_all(deviation: str, settings: Sequence[Setting]) -> bool:
    """Whether a deviation ("key = ...") is of the sweep, not what its settings vary."""
    return deviation.partition(" ")[0] not in {key.partition(".")[0] for key in settings[0].values}


def _ordered(groups: set[str], run: dict) -> list[str]:
    """All together first, then the attributes as the run lists them: the order of rows in a record says nothing."""
    listed = run["identity"]["config"].get("attributes") or []
    return sorted(groups, key=lambda g: (g != ALL, listed.index(g) if g in listed else len(listed), g))


def interval_values(rows: pd.DataFrame, names: Sequence[str]) -> dict[tuple[str, str], Value]:
    """(attribute, score) -> mean with its interval; photos are resampled, with all of their rows."""
    blocks = blocks_of(rows, names)
    low, high = bootstrap_intervals(blocks)
    values = zip(blocks.cells, blocks.means, low, high, strict=True)
    return {cell: Value(float(m), low=float(a), high=float(b)) for cell, m, a, b in values}


def _of_sets(folder: Path) -> dict[tuple[str, str], Value]:
    summary = _by_edit(read_table(folder / "summary.csv"))
    kept = {}
    for row in summary.to_dict("records"):
        for name in OF_SETS:
            if not pd.isna(row.get(name)):
                kept[row["attribute"], name] = Value(row[name], row.get(f"{name}_sd", float("nan")))
    return kept


def _edit_notes(settings: Sequence[Setting], samples: dict, names: Sequence[str], tested: bool) -> list[str]:
    run = settings[0].run
    config = run["identity"]["config"]
    notes = [f"means over photos with {100 * LEVEL:.0f} % BCa intervals ({RESAMPLES} resamples of photos)"]
    if tested and len(settings) > 1:
        notes.append(
            "bold: better than every other setting of its group, photo by photo (sign flips), after Holm's correction "
            f"over all comparisons of the table, p <= {ALPHA}; FID, KID, latency and memory are not tested"
        )
    idle = {label: int(rows.loc[rows["attribute"] != ALL, IDLE].sum()) for label, rows in samples.items()}
    if any(idle.values()):
        counts = "; ".join(f"{label} {n}" for label, n in idle.items() if n)
        notes.append(f"edits that changed nothing, whose gains count as 0 in the tests: {counts}")
    infinite = [n for n in names if n in OF_EDITS and any(np.isinf(rows[n]).any() for rows in samples.values())]
    notes += [f"{name}: infinite values (an untouched outside) enter no mean" for name in infinite]
    absent = {n: why for s in settings for n, why in s.run.get("empty_columns", {}).items() if n in names}
    notes += [f"column {name} is empty: {why}" for name, why in absent.items()]
    notes += dict.fromkeys(note for s in settings for note in s.run.get("set_notes", []))
    if deviations := [d for d in run.get("protocol_deviations", []) if _of_all(d, settings)]:
        notes.append(f"deviates from protocol {config['protocol']}: {'; '.join(deviations)}")
    names = [f"editor {config['editor']['name']}"] * ("editor.name" not in settings[0].values)
    names += [f"parser {run['parser']['name']}{judged_by(run)}"] * ("parser" not in settings[0].values)
    return [*notes, ", ".join([*names, f"protocol {config['protocol']}"])]


# --------------------------------------------------------------------------------------------------------------------
# Parsers.

_CELL_OF = {"mean_f1_no_background": "f1", "pixel_accuracy": "f1", "mean_accuracy": "recall"}
"""Column of ``summary.csv`` that holds an aggregate; the others stand in ``iou``."""


def parser_values(setting: Setting, names: Sequence[str]) -> dict[str, Value]:
    """Score -> value of a training's validation or of a parser's evaluation, with an interval where it was kept."""
    table = read_table(setting.folder / "summary.csv").set_index("class")
    found = {}
    for name in names:
        row = table.loc[name].to_dict() if name in table.index else {}
        value = row.get(_CELL_OF.get(name, "iou"), float("nan"))
        interval = {e: row.get(f"iou_{e}", float("nan")) for e in ("low", "high")} if name not in _CELL_OF else {}
        found[name] = Value(value, **interval)
    return found


def _of_parsers(settings: Sequence[Setting], names: Sequence[str]) -> Grid:
    run = settings[0].run
    if run["task"] == "train_parser":
        return _of_trainings(settings, names)
    rows = [Row(_words(s), tuple(parser_values(s, names).values())) for s in settings]
    notes = [f"{run['n']} photos, pooled counts, protocol {run['identity']['config']['protocol']}"]
    notes += ["pooled scores have no value for each photo, so nothing is tested and nothing is bold"]
    return Grid(_labels(settings), tuple(column(name) for name in names), rows, notes=notes)


def _of_trainings(settings: Sequence[Setting], names: Sequence[str]) -> Grid:
    """A row a setting, its seeds together."""
    keys = tuple(key for key in settings[0].values if key != "seed")
    seeds: dict[tuple[str, ...], list[Setting]] = {}
    for s in settings:
        label = tuple(spelt(s.values[key]) for key in keys) or _words(s)
        seeds.setdefault(label, []).append(s)
    values = {label: [parser_values(s, names) for s in of] for label, of in seeds.items()}
    n_seeds = sorted({len(of) for of in seeds.values()})
    classes = tuple(of_classes(read_table(settings[0].folder / "summary.csv")).index)
    kept = {label: validated([s.folder for s in of], classes) for label, of in seeds.items()}
    counts = {label: of for label, of in kept.items() if of is not None}
    means = {
        name: {label: float(np.mean([v[name].mean for v in of])) for label, of in values.items()} for name in names
    }
    known = {name: of for name, of in means.items() if name in AGGREGATES and np.isfinite(list(of.values())).all()}
    tested = len(seeds) > 1 and len(counts) == len(seeds) and bool(known)
    p = against_the_best(counts, known, classes) if tested else {}
    rows = []
    for label, of in values.items():
        cells: list[Cell] = [Value(len(of))] if n_seeds[-1] > 1 else []
        for name in names:
            best = name in known and means[name][label] == max(means[name].values())
            won = tested and best and all(p[other, name] <= ALPHA for other in seeds if other != label)
            sd = float(np.std([v[name].mean for v in of], ddof=1)) if len(of) > 1 else float("nan")
            low, high = (of[0][name].low, of[0][name].high) if len(of) == 1 else (float("nan"),) * 2
            cells.append(Value(means[name][label], sd, low=low, high=high, best=won))
        cells += [Value(p.get((label, names[0]), float("nan")))] if tested else []
        rows.append(Row(label, tuple(cells)))
    columns = [Column("seeds", "seeds")] * (n_seeds[-1] > 1) + [column(name) for name in names]
    columns += [Column(f"p_{names[0]}", f"p against the best {column(names[0]).heading}", None, 4)] if tested else []
    labels = parameter_labels(keys) or _labels(settings)
    return Grid(labels, tuple(columns), rows, notes=_training_notes(n_seeds, tested))


def _training_notes(n_seeds: Sequence[int], tested: bool) -> list[str]:
    notes = ["scores of each run's best epoch on the validation photos, pooled counts"]
    if n_seeds[-1] > 1:
        notes.append("mean ± sd over the seeds of a setting; the test treats the seeds as given")
    else:
        notes.append("one training a setting: another seed may order them in another way")
    if tested:
        notes.append(
            f"bold: better than every other setting; photos are swapped between the best setting and another one at "
            f"random ({PERMUTATIONS} draws), counts pooled over photos and seeds again, Holm over all comparisons, "
            f"p <= {ALPHA}"
        )
    else:
        notes.append("no photo's own counts are kept of some training, so nothing is tested and nothing is bold")
    return notes

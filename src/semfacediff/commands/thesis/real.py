"""``semfacediff thesis --real``: the thesis's table 6.1 with the real weights, its floors, and all of it as one zip."""

import contextlib
import functools
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semfacediff import config, tasks
from semfacediff.commands.doctor.machine import DATA, HOW, examined
from semfacediff.commands.fetch.weights import fetch
from semfacediff.commands.report.page import PAGE, ReportOptions, report
from semfacediff.commands.thesis.experiments import Part, words_of
from semfacediff.commands.thesis.forecast import SAMPLES, Forecast, memory_words
from semfacediff.commands.thesis.real_tables import FLOORS, PARSER, SEAM, TABLE, write_real_tables
from semfacediff.data.celebamask_layout import MAPPING, PARTITION
from semfacediff.data.files import PHOTO_SUFFIXES, is_file
from semfacediff.downloads import megabytes
from semfacediff.errors import EXIT_MISTAKE, UserError
from semfacediff.hydra_app import composed_or_refused
from semfacediff.metrics.weights import LPIPS_SQUEEZE, PUBLIC
from semfacediff.parsing.default import SHIPPED
from semfacediff.parsing.public import PUBLIC_PARSERS
from semfacediff.records.folder import DONE, held, read_run
from semfacediff.records.ledger import noted, read_index
from semfacediff.records.sealing import seal
from semfacediff.records.writing import write_errors

_MASKS, _PARSERS = f"parser.checkpoint={PUBLIC_PARSERS['face_parsing'].id}", {"parser", "parser.checkpoint"}
STEPS = ("parser", "floors", "edits", "tables")
ZIP, TABLES = "thesis_real.zip", "tables.md"
PUBLISHED = PUBLIC_PARSERS["face_parsing"]
FLOOR_KINDS, SEAMS = ("nothing", "vae_round_trip", "empty_prompt"), ("none", "laplacian", "poisson")
_EDITOR = "sdxl_inpaint"
_SDXL_BYTES = 6_940_000_000
"""Of SDXL in half precision, about; the hub says it exactly before the download begins."""


@dataclass(frozen=True)
class Asked:
    """The arguments of the command: photos to take, steps, folder of everything that is written, and as of
    :func:`semfacediff.commands.thesis.experiments.thesis`."""

    n: int
    steps: tuple[str, ...]
    out: Path
    words: tuple[str, ...] = ()
    data: str | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class _Run:
    """A run: its folder below ``runs/``, words after ``evaluate.py``, and whether it takes the pipeline's steps."""

    name: str
    words: tuple[str, ...]
    slow: bool = False


def real(asked: Asked) -> int:
    """Make what the steps ask for and is not there yet, and seal what is finished; returns the worst exit code.

    Raises:
        UserError: an unknown step, no photos, no accelerator that fits, or what a run refuses.
    """
    if strange := [step for step in asked.steps if step not in STEPS]:
        raise UserError(f"--steps {strange[0]}: expected some of {','.join(STEPS)}")
    with held(asked.out, "name another folder with --out"):
        with write_errors(asked.out):
            (asked.out / "runs").mkdir(exist_ok=True)
        code = _runs(asked) if set(asked.steps) - {"tables"} else 0
        if code == EXIT_MISTAKE:
            return code
        finished, unfinished = _by_status(asked.out / "runs")
        if "tables" in asked.steps and finished:
            write_real_tables(asked.out / "runs", asked.out / TABLES)
            report(list(finished.values()), asked.out / "report", ReportOptions())
            print(f"tables: {asked.out / TABLES}; report: {asked.out / 'report' / PAGE}")
        if finished:
            (asked.out / ZIP).unlink(missing_ok=True)
            seal(finished, asked.out / ZIP)
            print(f"sealed: {asked.out / ZIP}, {len(finished)} runs without photos; read it with: semfacediff import")
        if unfinished:
            print(f"unfinished, not in the zip: {', '.join(unfinished)}; repeat the command")
    return code


def _by_status(runs: Path) -> tuple[dict[str, Path], list[str]]:
    """Name -> folder of every run that is done, and the names of the others."""
    found = {file.parent.relative_to(runs).as_posix(): file.parent for file in sorted(runs.glob("**/run.json"))}
    done = {name: folder for name, folder in found.items() if read_run(folder)["status"] == DONE}
    return done, [name for name in found if name not in done]


def _runs(asked: Asked) -> int:
    """The runs of the steps, in their order; what is missing is fetched first."""
    given = dict(word.partition("=")[::2] for word in asked.words)
    found = examined(given.get("weights.root"), asked.data or given.get("data.root"), asked.checkpoint)
    device = found["devices"][0]
    with_pipeline = {"floors", "edits"} & set(asked.steps)
    words = (*asked.words, *(memory_words(device, given) if with_pipeline else ()))
    runs, index = list(_planned(asked, words, found)), read_index(asked.out / "runs")
    todo = [run for run in runs if not _is_done(run, index, asked.out / "runs")]
    for run in runs:
        if run not in todo:
            print(f"{run.name}: finished")
    slow = {run: _settings(run.words) for run in todo if run.slow}  # refuses mistakes before anything is made
    if todo and (code := _fetched(asked.steps, found, given)):
        return code
    left = {run: _edits(settings) - _rows(asked.out / "runs" / run.name) for run, settings in slow.items()}
    worst = 0
    for run in todo:
        heard = None
        if run in slow:
            heard = Forecast(_edits(slow[run], SAMPLES), sum(left.values()), device["memory_mib"]).heard
        print(f"{run.name}: {shlex.join(run.words)}", flush=True)
        with _named(run.words), noted(asked.out / "runs", run.name, list(run.words)) as codes:
            codes.append(tasks.start(_settings(run.words), asked.out / "runs" / run.name, heard))
        left.pop(run, None)
        worst = max(worst, codes[-1])
    return worst


def _planned(asked: Asked, words: Sequence[str], found: dict) -> Iterator[_Run]:
    """The runs of the steps asked for, in the order in which they are made."""
    data = _data_words(asked, found)
    if "parser" in asked.steps:
        if not found["data"]["labels"]:
            print("parser: these photos have no labels, so no parser is scored on them")
        else:
            own = [word for word in words if _key(word) in ("data", "runtime", "seed")]
            if found["data"]["layout"] == "celebamask_hq" and not {MAPPING, PARTITION} & {*found["data"]["absent"]}:
                own = ["data.split=test", *own]  # which no training of a parser saw
            part = Part("evaluate.py", ("task=parsing", "protocol=strict"), PARSER, (), "")
            for name, choice in (("published", f"parser.checkpoint={PUBLISHED.id}"), ("ours", f"parser={SHIPPED}")):
                yield _Run(f"{PARSER}/{name}", words_of(part, found, [choice, *data, *own], None, None))
    parser = () if any(_key(word) == "parser" for word in words) or asked.checkpoint else (_MASKS,)

    def editing(name: str, *choices: str, slow: bool = False) -> _Run:
        part = Part(
            "evaluate.py", ("experiment=thesis/table_6_1", *choices, f"name={name.partition('/')[0]}"), name, (), ""
        )
        own = _of_editor(words, choices)
        return _Run(name, words_of(part, found, [*parser, *data, *own], None, asked.checkpoint), slow)

    if "floors" in asked.steps:
        for kind in FLOOR_KINDS:
            floor = ("editor=control", f"editor.kind={kind}", "strips=0")
            yield editing(f"{FLOORS}/{kind}", *floor, slow=kind == "empty_prompt")
    if "edits" in asked.steps:
        yield editing(TABLE, slow=True)
        edits = asked.out.absolute() / "runs" / TABLE / "edits"
        for seam in SEAMS:
            choices = ("protocol=strict", "editor=precomputed", _place("editor.root", edits), "editor.resize=stretch")
            yield editing(f"{SEAM}/{seam}", *choices, f"seam={seam}", "strips=0")


def _key(word: str) -> str:
    """The group of a choice."""
    return word.partition("=")[0].lstrip("+~").partition(".")[0]


def _of_editor(words: Sequence[str], choices: Sequence[str]) -> list[str]:
    """The user's choices for a run with other editors: those of the pipeline reach a control's, and no others."""
    if "editor=precomputed" in choices:
        return [word for word in words if _key(word) != "editor"]
    if "editor=control" in choices:
        return [word.replace("editor.", "editor.of.", 1) if _key(word) == "editor" else word for word in words]
    return list(words)


def _data_words(asked: Asked, found: dict) -> list[str]:
    """``data.n``, and what a folder of photos alone needs; fewer photos than asked for are taken and said.

    Raises:
        UserError: there are no photos.
    """
    facts = found["data"]
    if any(word.startswith("data=") for word in asked.words):
        return [f"data.n={asked.n}"]
    words, n = [_place("data.root", Path(asked.data))] if asked.data else [], facts["photos"]
    if facts["layout"] is None:
        folder = Path(facts["place"]).expanduser() if facts["there"] else None
        n = sum(is_file(file, PHOTO_SUFFIXES) for file in folder.iterdir()) if folder else 0
        if n == 0:
            raise UserError(f"thesis --real: {HOW[DATA]}")
        words += ["data=folder", "data.images=.", "data.split=all"]
    if facts["layout"] != "shards" and n < asked.n:
        print(f"{n} photos there, {asked.n} asked for: all of them are taken")
        return [*words, f"data.n={n}"]
    return [*words, f"data.n={asked.n}"]


def _place(key: str, path: Path) -> str:
    """A choice whose value is a path with any characters."""
    return f'{key}="{str(path).replace(chr(34), chr(92) + chr(34))}"'


@functools.cache
def _settings(words: tuple[str, ...]) -> config.AnyTask:
    models: tuple[Any, ...] = (config.EditingEvaluation, config.ParsingEvaluation)
    return config.typed(composed_or_refused("evaluate", list(words), config.repository()), *models)


def _is_done(run: _Run, index: dict[str, dict], runs: Path) -> bool:
    """Whether the ledger knows the run as finished with these words; with others it is refused when it is begun."""
    known = index.get(run.name, {})
    there = known.get("status") == DONE and known.get("overrides") == list(run.words)
    return there and (runs / run.name / "run.json").is_file() and read_run(runs / run.name)["status"] == DONE


def _edits(settings: config.AnyTask, photos: int | None = None) -> int:
    """Edits that a run makes, of its first ``photos`` or of all."""
    if not isinstance(settings, config.EditingEvaluation):
        return 0
    n = settings.data.n or 0
    return min(n, photos or n) * len(settings.attributes)


def _rows(folder: Path) -> int:
    """Edits that earlier sittings made."""
    log = folder / "samples.jsonl"
    return len(log.read_bytes().splitlines()) if log.is_file() else 0


@contextlib.contextmanager
def _named(words: Sequence[str]) -> Iterator[None]:
    """Let the record say the command that repeats the run."""
    own = {"SEMFACEDIFF_PROGRAM": "semfacediff evaluate", "SEMFACEDIFF_OVERRIDES": shlex.join(words)}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _fetched(steps: Sequence[str], found: dict, given: dict[str, str]) -> int:
    """Fetch what the steps need and is not here, after saying how much it is; returns the exit code of ``fetch``."""
    edits, sizes = {"floors", "edits"} & set(steps), {}
    if edits and given.get("metrics") != "no_weights":
        for weights in (w for w in PUBLIC if w is not LPIPS_SQUEEZE):
            if found["weights"][weights.key]["fetch"] and f"weights.{weights.key}" not in given:
                sizes[weights.key] = max(file.size for file in weights.files if file.source())
    if edits and found["pipelines"][_EDITOR]["fetch"] and f"weights.{_EDITOR}" not in given:
        sizes[_EDITOR] = _SDXL_BYTES
    if found["public_parsers"][PUBLISHED.id]["fetch"] and ("parser" in steps or not given.keys() & _PARSERS):
        sizes[PUBLISHED.id] = PUBLISHED.size
    if not sizes:
        return 0
    each = ", ".join(f"{name} {megabytes(size)}" for name, size in sizes.items())
    print(f"to be fetched, about {megabytes(sum(sizes.values()))}: {each}", flush=True)
    return fetch(sizes)

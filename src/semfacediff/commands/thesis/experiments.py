"""``semfacediff thesis``: lists the thesis's experiments with their requirements and runs those that can run here."""

import functools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semfacediff.commands.doctor.machine import DATA, HOW, OFFICIAL, PARSER, examined, presence
from semfacediff.config import repository, results
from semfacediff.downloads import fetch_line
from semfacediff.errors import EXIT_INTERRUPTED
from semfacediff.hydra_app import composed

ACCELERATOR, PIPELINE = "accelerator", "pipeline"


@dataclass(frozen=True)
class Part:
    """One experiment.

    Attributes:
        script: entry point. words: its choices. run: its folder below ``results/runs``.
        needs: requirements. makes: tables and figures of the thesis.
    """

    script: str
    words: tuple[str, ...]
    run: str
    needs: tuple[str, ...]
    makes: str


PARTS = (
    Part("train_parser.py", ("experiment=thesis/parser",), "thesis_parser", (OFFICIAL, ACCELERATOR), "section 5.1"),
    Part(
        *("evaluate.py", ("experiment=thesis/table_6_1",), "thesis_6_1", (DATA, PARSER, PIPELINE, ACCELERATOR)),
        "table 6.1, figures 4.2-4.3, 5.1-5.4, 5.6-5.9",
    ),
    Part(
        *("evaluate.py", ("experiment=thesis/cascade",), "thesis_cascade", (DATA, PARSER, PIPELINE, ACCELERATOR)),
        "figure 5.5",
    ),
    Part(
        *("evaluate.py", ("experiment=thesis/table_6_1", "editor=recolor"), "thesis_6_1_recolor", (DATA, PARSER)),
        "the benchmark of table 6.1 with an editor without weights",
    ),
    Part(
        *("evaluate.py", ("experiment=thesis/cascade", "editor=recolor"), "thesis_cascade_recolor", (DATA, PARSER)),
        "the cascade of figure 5.5 with an editor without weights",
    ),
)
_WITH_TEST_PART = ("celebamask_hq", "lapa", "helen")
"""Data sets with a published test part; of others all photos are used."""
_WAY_OUT = {
    ACCELERATOR: "no accelerator (a CPU takes weeks; runtime.device=cpu asks for that)",
    PIPELINE: f"no weights of editor=sdxl_inpaint; fetch them: {fetch_line('sdxl_inpaint')}",
}


def thesis(run: bool, words: Sequence[str], data: str | None = None, checkpoint: str | None = None) -> int:
    """List the parts and their missing requirements; with ``run`` run the others; returns the worst exit code.

    Args:
        words: further choices for every part, e.g. ``weights.root=DIR`` or ``data.n=10``.
        data: as ``data.root`` (default: SEMFACEDIFF_DATA). checkpoint: as ``parser.checkpoint``.
    """
    given = dict(word.partition("=")[::2] for word in words)
    data, checkpoint = data or given.get("data.root"), checkpoint or given.get("parser.checkpoint")
    found = examined(given.get("weights.root"), data, checkpoint)
    worst = 0
    for part in PARTS:
        lacks = [_WAY_OUT.get(need) or HOW[need] for need in missing(part, found, given)]
        chosen = [*words_of(part, found, words, data, checkpoint), *_folder(part, words, given)]
        command = [part.script, *chosen]
        print(f"{' '.join(part.words)} ({part.makes}): {'; '.join(lacks) or 'can run here'}")
        print(f"  {' '.join(_typed(command))}", flush=True)
        if run and not lacks:
            code = subprocess.run(_placed(command), check=False).returncode
            if code in (EXIT_INTERRUPTED, -2):
                return EXIT_INTERRUPTED
            worst = max(worst, code)
    return worst


def missing(part: Part, found: dict, given: dict[str, str]) -> list[str]:
    """Requirements that this machine does not meet.

    Args:
        found: result of :func:`semfacediff.commands.doctor.examined`. given: choices by key.
    """
    there = presence(found)
    there[PIPELINE] = "weights.sdxl_inpaint" in given or found["pipelines"]["sdxl_inpaint"]["place"] is not None
    there[ACCELERATOR] = given.get("runtime.device") == "cpu" or found["devices"][0]["device"] != "cpu"
    there[DATA] = there[DATA] or given.get("data") == "toy"
    there[PARSER] = there[PARSER] or "parser" in given
    return [need for need in part.needs if not there[need]]


def words_of(
    part: Part, found: dict, words: Sequence[str], data: str | None, checkpoint: str | None
) -> tuple[str, ...]:
    """The part's choices, defaults found on this machine, and those of the user's choices that it knows.

    Args:
        found: result of :func:`semfacediff.commands.doctor.machine.examined`. words, data, checkpoint: as of
            :func:`thesis`.
    """
    given = dict(word.partition("=")[::2] for word in words)
    chosen = [*part.words]
    layout = given.get("data", found["data"]["layout"])
    if layout is not None and part.script == "evaluate.py":
        chosen += [] if "data" in given else [f"data={layout}"]
        chosen += [] if "data.split" in given or layout in _WITH_TEST_PART else ["data.split=all"]
    if data is not None and "data.root" not in given:
        chosen.append(f"data.root={data}")
    usable = [parser["place"] for parser in found["parsers"] if parser["error"] is None]
    if part.script == "evaluate.py" and not given.keys() & {"parser", "parser.checkpoint"} and usable:
        chosen.append(f"parser.checkpoint={checkpoint or usable[0]}")
    return (*chosen, *(word for word in words if _concerns(word, part)))


def _folder(part: Part, words: Sequence[str], given: dict[str, str]) -> list[str]:
    """Where the part's record goes, unless the user says."""
    drawn = "data=toy" in words  # not the thesis's photos, so not a record of the thesis
    runs = Path("outputs", "thesis") if drawn else results(repository()) / "runs"
    return [] if "hydra.run.dir" in given else [f"hydra.run.dir={runs / part.run}"]


def _concerns(word: str, part: Part) -> bool:
    """Whether a choice applies to this part: the training has no editor, the benchmark no optimiser."""
    key = word.partition("=")[0].lstrip("+~").partition(".")[0]
    if key == "editor" and "editor=recolor" in part.words:
        return False  # it is meant for the parts with a pipeline
    elsewhere = {"evaluate.py", "train_parser.py"} - {part.script}
    return key in _keys(part.script) or not any(key in _keys(script) for script in elsewhere)


@functools.cache
def _keys(script: str) -> frozenset[str]:
    """Keys of a script; a parser's training does not use the benchmarks' parser."""
    keys = {*composed(script.removesuffix(".py"), [], repository()), "hydra", "experiment"}
    return frozenset(keys - ({"parser"} if script == "train_parser.py" else set()))


def _typed(command: Sequence[str]) -> list[str]:
    """The command as a user types it: the script of a checkout, the subcommand of an installation."""
    if (repository() / command[0]).exists():
        return ["python", *command]
    return ["semfacediff", command[0].removesuffix(".py").replace("_", "-"), *command[1:]]


def _placed(command: Sequence[str]) -> list[str]:
    """The same for this interpreter, in any folder."""
    program, script, *words = _typed(command)
    return [
        sys.executable,
        *([str(repository() / script)] if program == "python" else ["-m", "semfacediff.cli", script]),
        *words,
    ]

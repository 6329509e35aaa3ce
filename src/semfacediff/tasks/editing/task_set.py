"""A task set: what each photo of a benchmark is edited to (see docs/tasks.md), from a file or made by a rule."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from semfacediff.colours.grammar import named_colour
from semfacediff.config.prompts import ADD, KINDS, RECOLOUR, without_words
from semfacediff.errors import UserError
from semfacediff.labels import ATTRIBUTES
from semfacediff.records.writing import write_text
from semfacediff.regions import ADDABLE

FILE = "tasks.csv"
"""In the folder of a run; may be given as ``prompts.file`` to another run."""
COLUMNS = ("sample_id", "attribute", "kind", "prompt", "target")
INSTRUCTION = "instruction"
"""A column that may be left out, for maskless editors."""


@dataclass(frozen=True)
class EditTask:
    """One edit of one photo.

    Attributes:
        kind: one of ``KINDS``.
        target: of ``recolour`` the colour that the prompt names, of ``restyle`` the style; "" where there is none.
        instruction: what maskless editors are told; "": what they make of attribute and prompt.
    """

    sample_id: str
    attribute: str
    kind: str
    prompt: str
    target: str = ""
    instruction: str = ""


@dataclass(frozen=True)
class TaskSet:
    """Tasks of a data set, at most one a photo and attribute.

    Attributes:
        name: of the rule or the file. tasks: photo by photo in the order of the data set, then by attribute.
    """

    name: str
    tasks: Sequence[EditTask]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tasks, as hex; their order has no part in it."""
        plain = sorted([*(getattr(t, c) for c in COLUMNS), *filter(None, [t.instruction])] for t in self.tasks)
        return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()

    @property
    def kinds(self) -> dict[str, int]:
        """Kind -> number of tasks, of those that occur."""
        counts = Counter(task.kind for task in self.tasks)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def facts(self) -> dict[str, object]:
        """For ``run.json``."""
        return {"name": self.name, "digest": self.digest, "n": len(self.tasks), "kinds": self.kinds}


def write_tasks(file: Path, tasks: Sequence[EditTask]) -> None:
    """Write the CSV file that :func:`read_tasks` reads."""
    text = io.StringIO()
    columns = [*COLUMNS, INSTRUCTION] if any(task.instruction for task in tasks) else COLUMNS
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(asdict(task) for task in tasks)
    write_text(file, text.getvalue())


def read_tasks(file: Path) -> list[EditTask]:
    """The tasks of a CSV file with the columns :data:`COLUMNS` and, if it has one, :data:`INSTRUCTION`, in any order.

    Raises:
        UserError: the file cannot be read, has other columns or no task, or a row is no task (the first one is named
            with its line, and how many follow).
    """
    where = f"prompts.file={file}"
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            found = reader.fieldnames or ["none"]
            if sorted(c for c in found if c != INSTRUCTION) != sorted(COLUMNS):
                raise UserError(f"{where}: expected the columns {', '.join(COLUMNS)}, got {', '.join(found)}")
            rows = [(reader.line_num, row) for row in reader]
    except OSError as e:
        raise UserError(f"{where}: cannot be read ({e.strerror}); name a CSV file of tasks") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{where}: no CSV file in UTF-8 ({e}); save it as one") from e
    seen: dict[tuple[str, str], int] = {}
    wrong = [f"line {line}: {why}" for line, row in rows if (why := _refused(row, line, seen))]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{where}, {wrong[0]}{more}; correct the file")
    if not rows:
        raise UserError(f"{where}: has no task; add a row for each edit")
    return [EditTask(**row) for _, row in rows]


def _refused(row: Mapping[str | None, str | None], line: int, seen: dict[tuple[str, str], int]) -> str | None:
    """Why a row is no task; ``None`` if it is one. ``seen``: (photo, attribute) -> line, of the rows before."""
    if None in row or None in row.values():
        return f"expected {len(row) - (None in row)} cells"
    id_, attribute, kind, prompt, target = (str(row[column]) for column in COLUMNS)
    if not id_:
        return "no sample_id"
    if attribute not in ATTRIBUTES:
        return f"unknown attribute '{attribute}'; expected one of {', '.join(ATTRIBUTES)}"
    if kind not in KINDS:
        return f"unknown kind '{kind}'; expected one of {', '.join(KINDS)}"
    if kind == ADD and attribute not in ADDABLE:
        return f"{attribute} cannot be added, only {', '.join(ADDABLE)} can"
    if why := without_words(prompt):
        return f"the prompt {why}"
    if row.get(INSTRUCTION) and (why := without_words(str(row[INSTRUCTION]))):
        return f"the instruction {why}"
    if kind == RECOLOUR and target and (why := _other_colour(prompt, target, attribute)):
        return why
    if (first := seen.setdefault((id_, attribute), line)) != line:
        return f"{attribute} of photo '{id_}' has a task in line {first} already; a photo has one task an attribute"
    return None


def _other_colour(prompt: str, target: str, attribute: str) -> str | None:
    """Why ``target`` is not the colour of the prompt, by which the edit is scored; ``None`` if it is."""
    asked = named_colour(target, attribute)
    if asked is None:
        return f"the target '{target}' is no colour of CSS4 or XKCD; leave it empty to score no colour"
    if named_colour(prompt, attribute) != asked:
        return f"the prompt '{prompt}' does not name the target '{target}'"
    return None


def ordered(
    name: str,
    tasks: Sequence[EditTask],
    ids: Sequence[str],
    attributes: Sequence[str],
    left_out: Collection[str] | None = (),
) -> TaskSet:
    """The tasks of a file in the order of a data set and of ``attributes=``.

    Args:
        ids: of the data set's photos.
        left_out: of photos that it left out, whose tasks are left out too; ``None``: of any others.

    Raises:
        UserError: the attributes are others than ``attributes=``, or a photo is unknown.
    """
    found = [a for a in ATTRIBUTES if a in {task.attribute for task in tasks}]
    if set(found) != set(attributes):
        raise UserError(
            f"prompts.file={name}: has tasks for {', '.join(found)}, attributes= names {', '.join(attributes)}; set "
            f"attributes=[{','.join(found)}]"
        )
    place = {id_: i for i, id_ in enumerate(ids)}
    unknown = [t for t in tasks if t.sample_id not in place and left_out is not None and t.sample_id not in left_out]
    if unknown:
        raise UserError(
            f"prompts.file={name}: {len(unknown)} of {len(tasks)} tasks are of photos that the data set does not have "
            f"(first '{unknown[0].sample_id}'); choose other photos with data.split or data.n, or remove these rows"
        )
    known = [task for task in tasks if task.sample_id in place]
    return TaskSet(name, sorted(known, key=lambda task: (place[task.sample_id], attributes.index(task.attribute))))

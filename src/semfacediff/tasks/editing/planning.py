"""What every photo of an editing run is edited to, and what the editor is told of it."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from semfacediff import config
from semfacediff.data.selection import Data
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.base import Editor
from semfacediff.editing.prompts.words import Words
from semfacediff.engine.prefetch import read_ahead
from semfacediff.engine.provenance import protocol_deviations
from semfacediff.errors import UserError
from semfacediff.tasks.editing.bench import Plan
from semfacediff.tasks.editing.cascade import staged
from semfacediff.tasks.editing.generated_tasks import generated
from semfacediff.tasks.editing.prompts import PromptRules, ResolvedPrompt, resolve_prompt, show
from semfacediff.tasks.editing.task_set import EditTask, TaskSet, ordered, read_tasks


@dataclass(frozen=True)
class Planned:
    """The edits of a run.

    Attributes:
        words: what the editor is told of each attribute or stage; of a task set empty.
        tasks: of the whole data set, whatever part of it the run takes; ``None``: the same for every photo.
        n_expected: spec's name -> edits that should be made.
    """

    plan: Plan
    words: list[ResolvedPrompt]
    tasks: TaskSet | None
    n_expected: Mapping[str, int]

    def facts(self) -> dict[str, object]:
        """For ``run.json``."""
        if self.tasks is None:
            return {"prompts": [one.facts() for one in self.words]}
        source = f"task set {self.tasks.name}"
        prompts = [{"attribute": s.attribute, "prompt": "", "prompt_source": source} for s in self.plan.specs]
        return {"prompts": prompts, "task_set": self.tasks.facts()}

    def inputs(self) -> dict[str, object]:
        """What determines the results: the words that the lexicon made, and the task set."""
        if self.plan.by_photo is None or self.tasks is None:
            return {"words": _made_words({_unrepeated(spec): spec for spec in self.plan.specs})}
        each = {f"{id_}/{_unrepeated(spec)}": spec for id_, specs in self.plan.by_photo.items() for spec in specs}
        made = _made_words(each)
        return {"words": made and {"digest": config.digest(made)}, "tasks": self.tasks.digest}

    def show(self) -> None:
        """Say on stderr what the editor is told beyond the prompts of the configuration."""
        show(self.words)
        if self.tasks is not None:
            kinds = ", ".join(f"{kind} {n}" for kind, n in self.tasks.kinds.items())
            n, digest = len(self.tasks.tasks), self.tasks.digest[:8]
            print(f"task set {self.tasks.name}: {n} tasks ({kinds}), digest {digest}", file=sys.stderr)


def check_prompts(settings: config.EditingEvaluation, editor: Editor) -> None:
    """Refuse what can be refused before the photos are read.

    Raises:
        UserError: a prompt that the editor cannot follow or read whole, negative prompts that were asked for and that
            it does not read, or a file that is no task set.
    """
    asked = [said for said in protocol_deviations(settings) if said.startswith("negatives = ")]
    if asked and settings.negatives != "none" and editor.tokenizers() and not editor.reads_negatives():
        raise UserError(
            f"negatives={settings.negatives}: editor '{editor.name}' as set reads no negative prompt; leave it out"
        )
    if settings.prompts.file is not None:
        _told(read_tasks(Path(settings.prompts.file)), settings, editor)
    elif not settings.prompts.of_tasks:
        _of_every_photo(settings, editor)


def planned(settings: config.EditingEvaluation, editor: Editor, everything: Data, part: Data) -> Planned:
    """What the photos of ``part`` are edited to.

    Args:
        everything: the whole data set: a task set is that of all photos, so that every shard has the same.

    Raises:
        UserError: as :func:`check_prompts`, or a task set that does not fit the data set.
    """
    if not settings.prompts.of_tasks:
        specs, words = _of_every_photo(settings, editor)
        return Planned(Plan(specs), words, None, {spec.name: part.n_expected for spec in specs})
    tasks = _task_set(settings, everything)
    here = set(part.faces.ids)
    by_photo: dict[str, list[EditSpec]] = {}
    repeats = _repeats(settings)
    for task, spec in _told([t for t in tasks.tasks if t.sample_id in here], settings, editor):
        by_photo.setdefault(task.sample_id, []).extend(replace(spec, repeat=repeat) for repeat in repeats)
    counts = Counter(spec.name for specs in by_photo.values() for spec in specs)
    names = [EditSpec(a, Words(""), repeat=repeat) for a in settings.attributes for repeat in repeats]
    return Planned(Plan(names, by_photo), [], tasks, {spec.name: counts[spec.name] for spec in names})


def _task_set(settings: config.EditingEvaluation, data: Data) -> TaskSet:
    if settings.prompts.file is not None:
        file = Path(settings.prompts.file)
        left_out = None if settings.limit else data.skipped
        return ordered(file.name, read_tasks(file), data.faces.ids, settings.attributes, left_out)
    photos = read_ahead(data.faces, range(len(data.faces)), settings.runtime.decoders)
    shown = tqdm(photos, total=len(data.faces), desc="tasks", unit="photo", leave=False, mininterval=0.5, disable=None)
    return generated(shown, data.label_space, settings.attributes, settings.prompts.seed)


def _told(
    tasks: Sequence[EditTask], settings: config.EditingEvaluation, editor: Editor
) -> list[tuple[EditTask, EditSpec]]:
    """Each task, and what the editor is told of it; a prompt that occurs often is looked at once."""
    rules, negatives = PromptRules.of(settings), settings.negative_prompts or {}
    known: dict[tuple[str, str], Words] = {}
    told = []
    for task in tasks:
        key = task.attribute, task.prompt
        if key not in known:
            place = f"of photo '{task.sample_id}' for '{task.attribute}'"
            known[key] = resolve_prompt(*key, negatives.get(task.attribute), rules, editor, place).words
            editor.check({task.attribute: known[key].read})
        words = replace(known[key], instruction=task.instruction) if task.instruction else known[key]
        told.append((task, EditSpec(task.attribute, words, kind=task.kind, target=task.target)))
    return told


def _of_every_photo(settings: config.EditingEvaluation, editor: Editor) -> tuple[list[EditSpec], list[ResolvedPrompt]]:
    rules, negatives = PromptRules.of(settings), settings.negative_prompts or {}
    if settings.cascade is not None:
        return staged(settings.cascade.ordered(), negatives, rules, editor)
    words = [
        resolve_prompt(a, settings.prompts.texts[a], negatives.get(a), rules, editor, f"for '{a}'")
        for a in settings.attributes
    ]
    editor.check({one.attribute: one.words.read for one in words})
    repeats = _repeats(settings)
    return [EditSpec(one.attribute, one.words, repeat=repeat) for one in words for repeat in repeats], words


def _repeats(settings: config.EditingEvaluation) -> Sequence[int | None]:
    """Numbers of the edits of each photo and attribute; ``[None]`` where there is one."""
    return [None] if settings.editor.repeats == 1 else range(1, settings.editor.repeats + 1)


def _unrepeated(spec: EditSpec) -> str:
    """The spec's name without its repeat, for all of them have the same words."""
    return replace(spec, repeat=None).name


def _made_words(specs: Mapping[str, EditSpec]) -> dict | None:
    """Name -> what the lexicon made for a spec, for another lexicon makes another result; ``None`` = nothing."""
    made = {name: [s.words.expanded_prompt, s.words.negative_prompt or None] for name, s in specs.items()}
    return made if any(text for texts in made.values() for text in texts) else None

"""Models that all open pages share: the parser, and editors opened on first use."""

import threading
from dataclasses import dataclass
from typing import Any

from semfacediff import config
from semfacediff.commands.edit.one_photo import (
    WITHOUT_WEIGHTS,
    EditOptions,
    Tools,
    base_settings,
    editor_of,
    editors,
    parser_of,
    settings_of,
)
from semfacediff.downloads import fetch_line
from semfacediff.editing.base import Editor
from semfacediff.editing.diffusion.lora import find_lora
from semfacediff.editing.diffusion.weights import PUBLIC_PIPELINES, NoPipelineError, find_pipeline
from semfacediff.errors import UserError
from semfacediff.labels import attribute_classes

_NEEDS_MORE = ("sca_dm", "command", "python")
"""Editors that need what the page does not ask for, or asks for in another tab."""
_DEFAULT_EDITOR = "recolor"
"""Its settings define the masks; the region does not depend on the editor."""


@dataclass(frozen=True)
class EditForm:
    """One requested edit.

    Attributes:
        strength: (0, 1]; ignored by editors without one. negative: ``None`` or empty = derived from the prompt.
    """

    attribute: str
    prompt: str
    editor: str
    strength: float
    seed: int = 42
    negative: str | None = None


def editor_names() -> list[str]:
    """Names of the editors offered on the page."""
    return [name for name in editors() if name not in _NEEDS_MORE]


def _check(form: EditForm) -> None:
    """Refuse in words of the page what the configuration would refuse."""
    attribute_classes(form.attribute)
    if why := config.without_words(form.prompt):
        raise UserError(f"The prompt {why}; describe the edit, such as: copper red hair")
    if why := config.too_long(form.negative or ""):
        raise UserError(f"The negative prompt {why}; shorten it")
    if form.seed is None or not 0 <= form.seed < 2**63:
        raise UserError("The seed is no whole number from 0; enter one, such as 42")
    if not 0 < form.strength <= 1:
        raise UserError("The strength is not between 0 and 1; move its slider")


class ModelStore:
    """Opened editors and the parser. Thread-safe.

    Args:
        parser: checkpoint folder or training run; ``None`` = the one that ships with the package.
        weights: folder of weights. device: as ``runtime.device``.

    Attributes:
        parser: opened; ``parser_digest``: of its weights. space: its label space.
        region: how masks are made.

    Raises:
        UserError: the parser cannot be opened.
    """

    def __init__(self, parser: str | None = None, weights: str | None = None, device: str = "auto"):
        self._parser_place, self._weights, self._device = parser, weights, device
        self._lock = threading.Lock()
        self._base_settings: dict[str, dict[str, Any]] = {}
        self._opened: dict[str, tuple[Editor, dict[str, Any]]] = {}
        settings = self.settings(EditForm("hair", "brown", _DEFAULT_EDITOR, 1.0))
        self.parser, self.parser_digest = parser_of(settings)
        self.space, self.region = self.parser.label_space, settings.region

    def strength(self, editor: str) -> float | None:
        """The editor's default strength; ``None`` = it has none."""
        return self._base(editor)["editor"].get("strength")

    def settings(self, form: EditForm) -> config.EditingEvaluation:
        """Settings as for ``semfacediff edit``; raises :class:`UserError` for an invalid request."""
        _check(form)
        base = self._base(form.editor)
        options = EditOptions(
            edits=[(form.attribute, form.prompt)],
            editor=form.editor,
            seed=form.seed,
            strengths=[] if "strength" not in base["editor"] else [form.strength],
            negative=form.negative or None,
            face="largest",
            reparse=True,
            order="given",
            overrides=[],
            parser=self._parser_place,
            weights=self._weights,
            device=self._device,
        )
        return settings_of(options, base)

    def tools(self, form: EditForm) -> Tools:
        """Settings, parser and editor for an edit; raises :class:`UserError` if the editor's weights are missing."""
        settings = self.settings(form)
        if why := self.lacks(form.editor):
            raise UserError(why)
        editor, facts = self._editor(form.editor, settings)
        return Tools(settings, self.parser, self.parser_digest, editor, facts)

    def lacks(self, editor: str) -> str | None:
        """Why an editor cannot run on this computer; ``None`` if it can. Looks for its files and opens none."""
        settings = self.settings(EditForm("hair", "brown", editor, 1.0))
        of = settings.editor
        if not isinstance(of, config.InpaintEditor | config.InstructEditor):
            return None
        explicit = getattr(settings.weights, of.name, None) or of.model
        id_ = explicit or PUBLIC_PIPELINES.get(of.name)
        other = f"choose {_DEFAULT_EDITOR}, which needs none"
        try:
            find_pipeline(of.name, explicit, settings.weights.root, download=False)
            if of.lora:
                find_lora(of.lora, of.lora_weight)
        except NoPipelineError:
            if id_ is None:
                return f"'{editor}' cannot run: it opens a model of your own, and none is named; {other}"
            fetch = fetch_line(of.name if PUBLIC_PIPELINES.get(of.name) == id_ else id_)
            return f"'{editor}' cannot run: its weights ({id_}) are not there; fetch them with '{fetch}', or {other}"
        except UserError:
            parts = ", ".join(filter(None, (id_, of.lora)))
            return f"'{editor}' cannot run: a part of its weights is missing ({parts}); fetch them, or {other}"
        return None

    def _base(self, editor: str) -> dict[str, Any]:
        if editor not in editor_names():
            raise UserError(f"editor: expected one of {', '.join(editor_names())}, got '{editor}'")
        with self._lock:  # Hydra composes one configuration at a time
            if editor not in self._base_settings:
                self._base_settings[editor] = base_settings(editor, ["weights.download=false"])
            return self._base_settings[editor]

    def _editor(self, name: str, settings: config.EditingEvaluation) -> tuple[Editor, dict[str, Any]]:
        """Cached; of editors with weights only the last is kept, to save memory."""
        with self._lock:
            if name not in self._opened:
                found = editor_of(settings)
                self._opened = {k: v for k, v in self._opened.items() if k in WITHOUT_WEIGHTS} | {name: found}
            return self._opened[name]

"""What all open pages share: the parser, and editors opened when one is first asked for."""

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
from semfacediff.editing.base import Editor
from semfacediff.errors import UserError

_OF_A_REFERENCE = ("sca_dm",)
"""Editors that take their style from a second photo; the page has a tab of its own for that."""
_DRAWN = "recolor"
"""Whose settings say how masks are made before an editor is chosen; the region does not depend on the editor."""


@dataclass(frozen=True)
class EditForm:
    """One edit as it is asked for.

    Attributes:
        strength: (0, 1]; editors without one take no notice. negative: ``None`` or empty = made from the prompt.
    """

    attribute: str
    prompt: str
    editor: str
    strength: float
    seed: int = 42
    negative: str | None = None


def offered() -> list[str]:
    """Names of the editors to choose from."""
    return [name for name in editors() if name not in _OF_A_REFERENCE]


class ModelStore:
    """Opened editors and the parser. Safe to be used by several threads.

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
        self._plain: dict[str, dict[str, Any]] = {}
        self._opened: dict[str, tuple[Editor, dict[str, Any]]] = {}
        settings = self.settings(EditForm("hair", "brown", _DRAWN, 1.0))
        self.parser, self.parser_digest = parser_of(settings)
        self.space, self.region = self.parser.label_space, settings.region

    def strength(self, editor: str) -> float | None:
        """The editor's own; ``None`` = it has none."""
        return self._base(editor)["editor"].get("strength")

    def settings(self, form: EditForm) -> config.EditingEvaluation:
        """Those of ``semfacediff edit``; a :class:`UserError` says what cannot be asked for."""
        base = self._base(form.editor)
        wish = EditOptions(
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
        return settings_of(wish, base)

    def tools(self, form: EditForm) -> Tools:
        """What an edit is made with; a :class:`UserError` if the editor's weights are not there."""
        settings = self.settings(form)
        editor, facts = self._editor(settings)
        return Tools(settings, self.parser, self.parser_digest, editor, facts)

    def _base(self, editor: str) -> dict[str, Any]:
        if editor not in offered():
            raise UserError(f"editor: expected one of {', '.join(offered())}, got '{editor}'")
        with self._lock:  # Hydra composes one configuration at a time
            if editor not in self._plain:
                self._plain[editor] = base_settings(editor, ["weights.download=false"])
            return self._plain[editor]

    def _editor(self, settings: config.EditingEvaluation) -> tuple[Editor, dict[str, Any]]:
        """Opened once; of those with a model only the last is kept, the memory is not there for two."""
        name = settings.editor.name
        with self._lock:
            if name not in self._opened:
                found = editor_of(settings)
                self._opened = {k: v for k, v in self._opened.items() if k in WITHOUT_WEIGHTS} | {name: found}
            return self._opened[name]

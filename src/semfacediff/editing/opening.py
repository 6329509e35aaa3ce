"""The editor that the configuration names."""

import torch

from semfacediff import config, plugins
from semfacediff.editing.base import Editor, Place
from semfacediff.errors import UserError


def open_editor(
    settings: config.AnyEditor,
    on: torch.device,
    weights: config.WeightsConfig | None = None,
    runtime: config.RuntimeConfig | None = None,
) -> tuple[Editor, dict]:
    """The editor that ``editor=`` names, and its facts for the record: its name; for a model also the digest of its
    weights, what beside the configuration determines its results, and why they are not comparable (``doubts``).

    Args:
        weights, runtime: for editors with a model; without them it is looked for in the hub's cache only.

    Raises:
        UserError: it is no editor, or its weights or files are not there.
    """
    found = plugins.find("editor", settings.name)
    if found is None or not hasattr(found, "opened"):
        made = plugins.made("editor", settings.name, settings.options)
        raise UserError(
            f"editor '{settings.name}': expected a subclass of semfacediff.editing.base.Editor, got "
            f"{type(made).__name__}; derive the class from it"
        )
    return found.opened(settings, Place(on, weights, runtime))

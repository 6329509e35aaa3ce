"""Controls of a diffusion editor: what its parts do to a photo on their own (:mod:`semfacediff.controls`)."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from semfacediff.controls import SYSTEM
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.diffusion import InpaintEditor
from semfacediff.errors import UserError


class SystemControl(Editor):
    """A diffusion editor with one part of it taken out or exchanged; the scores still ask for the run's prompts.

    ``vae_round_trip``: the photo through the autoencoder, without noise and without a step. ``empty_prompt``: the model
    reads the empty text. ``other_prompt``: it reads the prompt of the run's next attribute, the last one that of the
    first. ``true_mask``: the editor as it is; the benchmark makes its masks of the data's labels.

    Args:
        kind: one of :data:`semfacediff.controls.SYSTEM`. editor: what is controlled.

    Raises:
        ValueError: an unknown kind. UserError: on :meth:`check`, ``other_prompt`` without another attribute.
    """

    name = "control"
    batchable = True

    def __init__(self, kind: str, editor: InpaintEditor):
        if kind not in SYSTEM:
            raise ValueError(f"kind: expected one of {', '.join(SYSTEM)}, got '{kind}'")
        self.kind, self.editor, self.native_size = kind, editor, editor.native_size
        self._prompts: dict[str, str] = {}

    def check(self, attributes: dict[str, str]) -> None:
        if self.kind == "other_prompt" and len(attributes) < 2:
            raise UserError("editor.kind=other_prompt: expected at least two attributes, got one; set attributes=[...]")
        names = list(attributes)
        self._prompts = {a: attributes[b] for a, b in zip(names, names[1:] + names[:1], strict=True)}

    def prepare(self) -> None:
        self.editor.prepare()

    def tokenizers(self) -> list[Any]:
        return self.editor.tokenizers()

    def reads_negatives(self) -> bool:
        return self.editor.reads_negatives()

    def note(self, request: EditRequest) -> str | None:
        said = [self.editor.note(request)]
        if self.kind in ("empty_prompt", "other_prompt"):
            said.append(f"the model read {self._read(request)!r}")
        return "; ".join(filter(None, said)) or None

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        if self.kind == "vae_round_trip":
            return [self.editor.round_trip(request) for request in requests]
        return self.editor.edit([replace(request, prompt=self._read(request)) for request in requests])

    def _read(self, request: EditRequest) -> str:
        if self.kind == "empty_prompt":
            return ""
        return self._prompts[request.attribute] if self.kind == "other_prompt" else request.prompt

"""What an editor is: one photo and one attribute in, a photo of the same size out."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from semfacediff import config, plugins
from semfacediff.labels import LabelSpace
from semfacediff.types import RegionMasks


def edit_name(attribute: str, repeat: int | None) -> str:
    """Of the folder of edits of an attribute, and of its ``repeat``-th edits where there are several of each photo."""
    return attribute if repeat is None else f"{attribute}_{repeat}"


@dataclass(frozen=True)
class EditRequest:
    """One photo, one attribute.

    Attributes:
        sample_id: the photo's id within its data set; names the photo in messages.
        attribute: a key of ``labels.ATTRIBUTES``.
        photo: float32 ``[3, H, W]`` in [0, 1], RGB; editors never write into it.
        masks: the attribute's masks at the photo's size; ``masks.generation`` is what may be repainted.
        prompt: what the region should look like.
        negative_prompt: what it should not look like; ``None`` where there is none, "" for the empty text.
        seed: of this request alone, in [0, 2**63); an editor draws from nothing else.
        strength: how far the edit may go, in (0, 1], instead of the editor's own; ``None`` = the editor's own. Editors
            without a strength take no notice of it.
        inpaint_mask: which mask an inpainting pipeline gets: ``generation``, grown to whole latent cells, or ``blend``
            with its levels, which the pipeline cuts at one half. Other editors use ``masks.generation``.
        labels: the photo's whole parse, int64 ``[H, W]`` in ``label_space``; ``None`` where a caller has masks alone.
        frame: (height, width) of the photo before it was brought to the working size; ``None`` = the size it has.
        repeat: which of the edits of this photo and attribute, from 1; ``None`` where there is one.
        instruction: what a maskless model is told, of a task set; ``None``: what it makes of attribute and prompt.
        on_step: called with (steps taken, of how many) by editors that work in steps; what it raises ends the edit.
    """

    sample_id: str
    attribute: str
    photo: Tensor
    masks: RegionMasks
    prompt: str
    negative_prompt: str | None
    seed: int
    strength: float | None = None
    inpaint_mask: str = "generation"
    labels: Tensor | None = None
    label_space: LabelSpace | None = None
    frame: tuple[int, int] | None = None
    repeat: int | None = None
    instruction: str | None = None
    on_step: Callable[[int, int], None] | None = None

    def copied(self) -> "EditRequest":
        """With tensors of its own, so that an editor that writes into them harms no other edit."""
        m = self.masks
        masks = replace(m, semantic=m.semantic.clone(), generation=m.generation.clone(), blend=m.blend.clone())
        labels = None if self.labels is None else self.labels.clone()
        return replace(self, photo=self.photo.clone(), masks=masks, labels=labels)


@dataclass(frozen=True)
class Place:
    """Where an editor works, and what of the run it may use; without ``weights`` and ``runtime``: the hub's cache."""

    device: torch.device
    weights: config.WeightsConfig | None = None
    runtime: config.RuntimeConfig | None = None


class Editor:
    """Repaints a region of a photo. Subclasses have ``edit``; the other methods have defaults that suit most editors.

    Attributes:
        name: as recorded and as chosen with ``editor=``.
        native_size: side in pixels of the square the editor works at; ``None`` = the photo's own size, whatever it is.
        batchable: whether several requests may come in one call; otherwise the list has one element.
    """

    name: str = ""
    native_size: int | None = None
    batchable: bool = False

    @classmethod
    def opened(cls, settings: Any, place: Place) -> tuple["Editor", dict]:
        """The editor that ``editor=`` describes, and its facts for the record; most need nothing of the run.

        Raises:
            UserError: it cannot be made of its options.
        """
        made = plugins.made("editor", settings.name, settings.options)
        if not isinstance(settings, config.OtherEditor):
            return made, {"name": settings.name}
        made.name = settings.name
        own, code = made.facts(), plugins.code_identity("editor", settings.name)
        facts: dict = {"name": settings.name, "numerics": None, **own, **code}
        if of_files := own.get("digest"):
            facts["digest"] = hashlib.sha256(f"{code['digest']} {of_files}".encode()).hexdigest()
        return made, facts

    def facts(self) -> dict[str, object]:
        """What beside code and options determines its edits, for the record: ``digest``, of its weights or files."""
        return {}

    def check(self, attributes: dict[str, str]) -> None:
        """Refuse prompts (attribute -> prompt) that the editor cannot follow, before any work.

        Raises:
            UserError: names the attribute, the prompt and the way out.
        """

    def prepare(self) -> None:
        """Load what the first edit would load, so that what cannot be loaded ends a run and not each of its samples.

        Raises:
            UserError: it cannot be loaded.
        """

    def fingerprint(self, sample_id: str, name: str) -> str | None:
        """Digest of the file this edit is read from, see :func:`edit_name`; ``None`` for an editor that computes."""
        return None

    def tokenizers(self) -> list[Any]:
        """The transformers tokenizers through which prompts go, each with its ``model_max_length``; none for an editor
        that reads words as they are."""
        return []

    def understood(self, prompt: str, attribute: str) -> list[str] | None:
        """The words of a prompt that have a say in the edit; ``None`` for an editor whose tokenizers read them all."""
        return None

    def reads_negatives(self) -> bool:
        """Whether negative prompts have a say in its edits."""
        return bool(self.tokenizers())

    def note(self, request: EditRequest) -> str | None:
        """What a reader of the record must know about this edit (e.g. that it kept the photo), or ``None``."""
        return None

    def edit(self, requests: list[EditRequest]) -> list[Tensor]:
        """Edited photos in order, float32 ``[3, H, W]`` in [0, 1], each of its own photo's size.

        A result depends on its own request only, never on what else is in the batch.
        """
        raise NotImplementedError

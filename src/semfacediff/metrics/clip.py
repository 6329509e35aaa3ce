"""CLIP (Radford et al., ICML 2021): does the edit show what the prompt asks for? Through ``open_clip``."""

import contextlib
import difflib
import importlib.metadata
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.metrics.base import EditPair, Metric, declared
from semfacediff.metrics.cache import LRUCache, content
from semfacediff.metrics.clip_layouts import as_openai
from semfacediff.metrics.needs import Needs
from semfacediff.metrics.weights import CLIP_VIT_B_32

_KEPT_TEXTS = 512
_KEPT_IMAGES = 64
_ROUNDING = 1e-6
"""Product of the lengths of two changes of unit vectors in float32 that is nothing but rounding."""


class CLIP(Metric):
    """Cosine of the embeddings of edit and prompt; the same under both protocols. Tables print 100 x.

    The edit goes through open_clip's own preprocessing of PIL images (for ViT-B/32: shortest side to 224, bicubic,
    centre crop), the whole photo is seen. A prompt is embedded once. Its tokens beyond the tokenizer's length are not
    seen by the text encoder: :meth:`note` says so.

    Args:
        model: an open_clip architecture name, taken as it stands (OpenAI's weights belong to ``*-quickgelu``).
        state: state dict of that architecture, OpenAI's, open_clip's or transformers', or ``None`` for random weights
            (tests only).
        weights: how the record names it.
        device: where it runs.

    Raises:
        UserError: no such architecture, or the state dict is of another one.
    """

    columns = ("clip",)
    higher_is_better: ClassVar = {"clip": True}
    orders: ClassVar = {"clip": ("wrong_colour < asked_colour",)}

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: Needs) -> Sequence[Metric]:
        if not (found := needs.weights(CLIP_VIT_B_32, name)):
            return []
        of_edit = cls(needs.clip_model, found.state, found.name, needs.device)
        return [of_edit, CLIPEffect(of_edit)]

    @classmethod
    def declared_orders(cls) -> Mapping[str, Sequence[str]]:
        return {**cls.orders, **CLIPEffect.orders}

    def __init__(self, model: str, state: Mapping[str, Tensor] | None, weights: str, device: torch.device):
        import open_clip

        _check_architecture(model, open_clip.list_models())
        self.model, self.weights, self.device = model, weights, device
        with torch.random.fork_rng(devices=[]), _quiet():
            torch.default_generator.manual_seed(0)  # random weights, where asked for, are at least the same ones
            net, _, self.preprocess = open_clip.create_model_and_transforms(model, pretrained=None)
            self.tokenizer = open_clip.get_tokenizer(model)
        if state is not None:
            _load(net, state, model)
        self.net = net.eval().to(device)
        self.together = device.type != "cpu"
        self._texts: LRUCache[Tensor] = LRUCache(_KEPT_TEXTS)
        self._images: LRUCache[Tensor] = LRUCache(_KEPT_IMAGES)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        return {"clip": float(self.image(pair.edit) @ self.text(pair.prompt))}

    def scores(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        if not self.together or not pairs:
            return [self.score(pair) for pair in pairs]
        texts = torch.stack([self.text(pair.prompt) for pair in pairs])
        return [{"clip": c} for c in (self.images([pair.edit for pair in pairs]) * texts).sum(1).tolist()]

    @torch.inference_mode()
    def images(self, photos: Sequence[np.ndarray]) -> Tensor:
        """float32 ``[N, D]``: embeddings of uint8 ``[H, W, 3]`` photos at length 1.

        Raises:
            ValueError: they are not finite.
        """
        prepared = torch.stack([self.preprocess(Image.fromarray(photo)) for photo in photos]).to(self.device)
        embedded = self.net.encode_image(prepared, normalize=True)
        if not torch.isfinite(embedded).all():
            raise ValueError(f"clip: the features are not finite; weights {self.weights} are damaged")
        return embedded

    def image(self, photo: np.ndarray) -> Tensor:
        """float32 ``[D]``: of one photo; the last ones are remembered."""
        return self._images.get(content(photo), lambda: self.images([photo])[0])

    def text(self, prompt: str) -> Tensor:
        """float32 ``[D]``: the prompt's embedding at length 1."""
        return self._texts.get(prompt, lambda: self._embedded(prompt))

    @torch.inference_mode()
    def _embedded(self, prompt: str) -> Tensor:
        return self.net.encode_text(self.tokenizer([prompt]).to(self.device), normalize=True)[0]

    def note(self, prompt: str) -> str | None:
        seen, given = self.tokenizer.context_length, self._tokens(prompt)
        return f"CLIP reads {seen} tokens, the prompt has {given}; the rest is unscored" if given > seen else None

    def _tokens(self, prompt: str) -> int:
        """Tokens of the whole prompt, start and end included."""
        if hasattr(self.tokenizer, "encode"):
            return len(self.tokenizer.encode(prompt)) + 2
        return len(self.tokenizer.tokenizer(prompt)["input_ids"])

    def identity(self) -> dict[str, object]:
        return declared(
            "clip",
            implementation="open_clip",
            version=importlib.metadata.version("open-clip-torch"),
            bounds=[-1, 1],
            unit="1",
            higher_is_better=True,
            resize="open_clip's PIL preprocessing of the model",
            weights=self.weights,
            model=self.model,
            input="8-bit RGB, the whole edit",
            prompt=f"as given, the first {self.tokenizer.context_length} tokens",
        )


class CLIPEffect(Metric):
    """What CLIP says of the change: read these, not ``clip`` alone, whose photo may match the prompt already.

    ``clip_photo``: cosine of the *unedited* photo and the prompt. ``clip_region``: of the edit's region and the prompt:
    the box around the blend mask, with a quarter of its longer side as margin; missing without a region.
    ``clip_direction``: cosine of the two changes, from photo to edit and from the attribute's name to the prompt (Gal
    et al., StyleGAN-NADA, 2022); missing where photo and edit, or name and prompt, have the same embedding.

    Args:
        clip: the metric whose network is used.
    """

    columns = ("clip_photo", "clip_direction", "clip_region")
    higher_is_better: ClassVar = {"clip_photo": None, "clip_direction": True, "clip_region": True}
    orders: ClassVar = {
        "clip_photo": ("wrong_colour = asked_colour",),
        "clip_direction": ("wrong_colour < asked_colour",),
        "clip_region": ("wrong_colour < asked_colour",),
    }

    def __init__(self, clip: CLIP):
        self.clip, self.together = clip, clip.together

    def score(self, pair: EditPair) -> dict[str, float | None]:
        crop = _around_the_region(pair)
        region = None if crop is None else self.clip.image(crop)
        return self._scored(pair, self.clip.image(pair.photo), self.clip.image(pair.edit), region)

    def scores(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        if not self.together or not pairs:
            return [self.score(pair) for pair in pairs]
        crops = {i: crop for i, pair in enumerate(pairs) if (crop := _around_the_region(pair)) is not None}
        photos, edits = (self.clip.images([getattr(pair, of) for pair in pairs]) for of in ("photo", "edit"))
        regions = dict(zip(crops, self.clip.images(list(crops.values())), strict=True)) if crops else {}
        return [self._scored(pair, photos[i], edits[i], regions.get(i)) for i, pair in enumerate(pairs)]

    def _scored(self, pair: EditPair, photo: Tensor, edit: Tensor, region: Tensor | None) -> dict[str, float | None]:
        asked = self.clip.text(pair.prompt)
        made, wanted = edit - photo, asked - self.clip.text(pair.attribute)
        length = float(made.norm() * wanted.norm())
        return {
            "clip_photo": float(photo @ asked),
            "clip_direction": float(made @ wanted) / length if length > _ROUNDING else None,
            "clip_region": None if region is None else float(region @ asked),
        }

    def identity(self) -> dict[str, object]:
        return self.clip.identity() | {
            "metric": ", ".join(self.columns),
            "higher_is_better": dict(self.higher_is_better),
            "input": "8-bit RGB; of the region the box around the blend mask and a quarter of its longer side",
            "source": "the attribute's name",
        }


def _around_the_region(pair: EditPair) -> np.ndarray | None:
    """uint8 ``[h, w, 3]`` of the edit; ``None`` without a region."""
    rows, columns = (np.flatnonzero(pair.blend.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    margin = round(max(np.ptp(rows), np.ptp(columns)) / 4)
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return np.ascontiguousarray(pair.edit[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin])


def _check_architecture(model: str, known: list[str]) -> None:
    # hf-hub: and local-dir: names would fetch or read a configuration that the record does not hold
    if model not in known:
        close = difflib.get_close_matches(model, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "open_clip.list_models() names them"
        raise UserError(f"metrics.clip.model: open_clip has no architecture '{model}'; {hint}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns that there are no weights yet, and thereby sets up the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _load(net: torch.nn.Module, state: Mapping[str, Tensor], model: str) -> None:
    """Put ``state`` into ``net``, in any of the layouts that CLIP is published in."""
    try:
        net.load_state_dict(as_openai(state))
    except (RuntimeError, AttributeError) as e:
        reason = str(e).splitlines()[-1].strip()[:160]
        raise UserError(
            f"weights.clip: not the state dict of metrics.clip.model={model} ({reason}); name the architecture that "
            f"the file belongs to, or another file"
        ) from e


METRIC = CLIP

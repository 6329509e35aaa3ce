"""CLIP (Radford et al., ICML 2021): does the edit show what the prompt asks for? Through ``open_clip``."""

import contextlib
import difflib
import importlib.metadata
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.metrics.base import EditPair, Metric, declared
from semfacediff.metrics.cache import LRUCache
from semfacediff.metrics.clip_layouts import as_openai

_KEPT_TEXTS = 512


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

    def score(self, pair: EditPair) -> dict[str, float | None]:
        return self._scored([pair])[0]

    def scores(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        return self._scored(pairs) if self.together and pairs else [self.score(pair) for pair in pairs]

    @torch.inference_mode()
    def _scored(self, pairs: Sequence[EditPair]) -> list[dict[str, float | None]]:
        photos = torch.stack([self.preprocess(Image.fromarray(pair.edit)) for pair in pairs]).to(self.device)
        texts = torch.stack([self._text(pair.prompt) for pair in pairs])
        cosines = (self.net.encode_image(photos, normalize=True) * texts).sum(1).tolist()
        if not all(map(math.isfinite, cosines)):
            raise ValueError(f"clip: the features are not finite; weights {self.weights} are damaged")
        return [{"clip": cosine} for cosine in cosines]

    def _text(self, prompt: str) -> Tensor:
        """float32 ``[D]``: the prompt's embedding at length 1."""
        return self._texts.get(prompt, lambda: self._embedded(prompt))

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

"""Prompts as a pipeline wants them: encoded once for each text, or as text where the pipeline encodes alone."""

from typing import Any

import torch

from semfacediff.editing.base import EditRequest

KEPT = 512
"""Texts that are remembered; the oldest go first."""


class PromptEmbeddings:
    """Arguments of a pipeline's call for the prompts of a batch.

    Without a negative prompt SDXL guides away from zeros, as it was trained; an empty one is encoded like any text.
    Texts are encoded one by one, so that a text's embedding does not depend on its neighbours.

    Args:
        guided: whether guidance is on. opposed_by: key through which a negative prompt acts; ``None``: it does not.
    """

    def __init__(self, pipe: Any, guided: bool, opposed_by: str | None):
        kind = type(pipe).__name__
        self._pipe, self._guided, self._opposed_by = pipe, guided, opposed_by
        self._names = {
            "StableDiffusionXLInpaintPipeline": (
                "prompt_embeds",
                "negative_prompt_embeds",
                "pooled_prompt_embeds",
                "negative_pooled_prompt_embeds",
            ),
            "StableDiffusionInpaintPipeline": ("prompt_embeds", "negative_prompt_embeds"),
        }.get(kind)
        self._cache: dict[tuple[str, str | None], tuple] = {}

    def arguments(self, requests: list[EditRequest]) -> dict[str, Any]:
        """Tensors of the embeddings ``[N, ...]`` by argument name, or lists of texts."""
        if self._names is None:
            return self._texts(requests)
        rows = [self._embedded(r.prompt, r.negative_prompt if self._guided else None) for r in requests]
        columns = zip(self._names, zip(*rows, strict=True), strict=True)
        return {name: torch.cat(values) for name, values in columns if values[0] is not None}

    def _texts(self, requests: list[EditRequest]) -> dict[str, list[str]]:
        """With an empty negative prompt where there is none: without any, a ``true_cfg_scale`` does nothing."""
        texts = {"prompt": [r.prompt for r in requests]}
        negatives = [r.negative_prompt for r in requests]
        told = self._opposed_by == "true_cfg_scale" or (self._opposed_by and any(n is not None for n in negatives))
        return texts | ({"negative_prompt": [n or "" for n in negatives]} if told else {})

    def _embedded(self, prompt: str, negative: str | None) -> tuple:
        key = (prompt, negative)
        if key not in self._cache:
            if len(self._cache) >= KEPT:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = self._pipe.encode_prompt(
                prompt=prompt,
                device=self._pipe._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=self._guided,
                negative_prompt=negative,
            )
        return self._cache[key]

"""The layouts in which CLIP's tensors are published, brought into one, and the digest of the tensors themselves.

OpenAI's archive has half precision and OpenAI's names, which are open_clip's too; transformers' ``CLIPModel`` has other
names, separate query, key and value, and transposed projections. Half precision widens to float32 without rounding, so
that copies of the same tensors have the same digest whatever their layout.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_NOT_PARAMETERS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives keep beside the parameters."""
_OF_TRANSFORMERS = "text_model.embeddings.token_embedding.weight"
_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_TOWERS = {"text": "transformer", "vision": "visual.transformer"}
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_NAMES = {
    _OF_TRANSFORMERS: "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",  # so spelt in transformers
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}


def as_openai(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A CLIP's state dict under OpenAI's names, from any of the layouts; tensors keep their dtype.

    Flat or under ``state_dict``, with or without ``module.`` before the names. A name that no layout has stays.
    """
    named = state.get("state_dict", state).items()
    tensors = [(k, v) for k, v in named if isinstance(k, str) and isinstance(v, Tensor) and k not in _NOT_PARAMETERS]
    state = {k.removeprefix("module."): v for k, v in tensors}
    return _from_transformers(state) if _OF_TRANSFORMERS in state else state


def tensor_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of :func:`as_openai`'s tensors, sorted by name; as hex.

    ``logit_scale`` does not count: no cosine depends on it.
    """
    digest = hashlib.sha256()
    for name in sorted(state.keys() - {"logit_scale"}):
        values = state[name].detach().to(torch.float32).contiguous()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made = {}
    for name, values in state.items():
        if block := _BLOCK.fullmatch(name):
            tower, number, layer, kind = block.groups()
            before = f"{_TOWERS[tower]}.resblocks.{number}"
            if layer in _IN_BLOCK:
                made[f"{before}.{_IN_BLOCK[layer]}.{kind}"] = values
            elif layer == "self_attn.q_proj":
                qkv = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
                made[f"{before}.attn.in_proj_{kind}"] = torch.cat([state[n] for n in qkv if n in state])
        elif name in _TRANSPOSED:
            made[_TRANSPOSED[name]] = values.T
        elif not name.endswith("position_ids"):  # a buffer of older versions: 0, 1, 2, ...
            made[_NAMES.get(name, name)] = values
    return made

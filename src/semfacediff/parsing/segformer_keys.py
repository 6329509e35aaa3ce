"""Two generations of key names under which SegFormer's tensors are found in files. Nothing here needs transformers."""

import re

# Later releases of transformers call the modules otherwise; the published names are those of its first ones.
_LATER = tuple(
    (re.compile(pattern), published)
    for pattern, published in (
        (r"segformer\.stages\.(\d+)\.patch_embeddings\.", r"segformer.encoder.patch_embeddings.\1."),
        (r"segformer\.stages\.(\d+)\.blocks\.", r"segformer.encoder.block.\1."),
        (r"segformer\.stages\.(\d+)\.layer_norm\.", r"segformer.encoder.layer_norm.\1."),
        (r"\.attention\.q_proj\.", ".attention.self.query."),
        (r"\.attention\.k_proj\.", ".attention.self.key."),
        (r"\.attention\.v_proj\.", ".attention.self.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.attention\.sequence_reduction\.sequence_reduction\.", ".attention.self.sr."),
        (r"\.attention\.sequence_reduction\.layer_norm\.", ".attention.self.layer_norm."),
        (r"\.mlp\.fc1\.", ".mlp.dense1."),
        (r"\.mlp\.fc2\.", ".mlp.dense2."),
        (r"\.layernorm_before\.", ".layer_norm_1."),
        (r"\.layernorm_after\.", ".layer_norm_2."),
        (r"decode_head\.linear_projections\.", "decode_head.linear_c."),
    )
)


def published(key: str) -> str:
    """The name under which a tensor of the library's module is published; published names stay as they are."""
    for pattern, name in _LATER:
        key = pattern.sub(name, key)
    return key

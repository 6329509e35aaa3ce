"""SegFace (Narayan et al., AAAI 2025): a torchvision backbone and one learned token for each class.

Backbone -> four maps -> one map of 256 channels at a quarter of the size -> tokens and map attend to each other -> the
map, enlarged to the whole size, times the tokens. Module names follow the released checkpoints.
"""

from semfacediff.parsing.segface.model import SegFace

__all__ = ["SegFace"]

"""Face parsers: architectures, checkpoints, and label maps from photos."""

from semfacediff.parsing.checkpoint import ParserCard, load_parser, save_parser
from semfacediff.parsing.ground_truth import GroundTruthParser
from semfacediff.parsing.precomputed import PrecomputedParser
from semfacediff.parsing.predict import ModelParser, Parser
from semfacediff.parsing.registry import build_parser, from_published

__all__ = [
    "GroundTruthParser",
    "ModelParser",
    "Parser",
    "ParserCard",
    "PrecomputedParser",
    "build_parser",
    "from_published",
    "load_parser",
    "save_parser",
]

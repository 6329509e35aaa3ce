"""Face parsers: architectures, checkpoints, and label maps from photos."""

from semfacediff.parsing.checkpoint import ParserCard, load_parser, save_parser
from semfacediff.parsing.predict import GroundTruthParser, ModelParser, Parser, PrecomputedParser
from semfacediff.parsing.registry import KINDS, build_parser, from_published

__all__ = [
    "KINDS",
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

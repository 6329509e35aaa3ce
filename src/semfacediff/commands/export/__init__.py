"""``semfacediff export``: export a trained parser as half-precision weights, for transformers, ONNX or torch.export."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import positive

HELP = "export a trained parser as half-precision weights, for transformers, ONNX or torch.export"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folder", nargs="?", metavar="RUN", help="run, checkpoint folder or weights file (default: the shipped one)"
    )
    parser.add_argument("--to", choices=("half", "hf", "onnx", "torch"), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--parser", metavar="NAME", help="architecture of a bare weights file")
    parser.add_argument("--int8", action="store_true", help="with onnx: also int8/, quantised dynamically")
    parser.add_argument("--opset", type=positive, metavar="N", help="ONNX operator set (default: torch's choice)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="compare label maps on these (default: drawn faces)")
    parser.add_argument("--push", metavar="NAME", help="with hf: also upload it as OWNER/MODEL, after a question")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.export.parser import ExportOptions, export_parser

    a = arguments
    return export_parser(
        ExportOptions(a.run_folder, a.to, a.out.expanduser(), a.parser, a.int8, a.opset, a.photos, a.push)
    )

"""``semfacediff parse``: write label maps, coverage and confidence of a photo or a folder of photos."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import existing_photo

HELP = "write label maps, coverage and confidence of a photo or a folder of photos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, metavar="PHOTO|DIR", help="a photo, or a folder of photos (not nested)")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs") / "parse", help="for label maps and JSON (default: outputs/parse)"
    )
    parser.add_argument(
        "--checkpoint", metavar="RUN", help="run, checkpoint folder or weights file (default: the shipped one)"
    )
    parser.add_argument("--parser", metavar="NAME", help="architecture of a bare weights file")
    parser.add_argument("--label-space", metavar="NAME", help="write labels of this space (default: the parser's own)")
    parser.add_argument("--overlay", action="store_true", help="also write the classes' colours over the photo")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    parser.add_argument("--backend", choices=("torch", "onnx"), default="torch", help="onnx: of semfacediff export")


def run(arguments: argparse.Namespace) -> int:
    a = arguments
    source, out = existing_photo(a.photo), a.out.expanduser()
    from semfacediff.commands.parse.photos import parse_photos  # takes seconds

    return parse_photos(source, out, a.checkpoint, a.parser, a.label_space, a.overlay, a.device, a.backend)

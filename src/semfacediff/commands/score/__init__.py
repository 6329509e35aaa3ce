"""``semfacediff score``: score edits that any other tool made."""

import argparse
from pathlib import Path

HELP = "score edits that any other tool made: a folder of photos, a folder of edits, one line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photos, in folders of any layout")
    parser.add_argument(
        "--edits", type=Path, required=True, metavar="DIR", help="edits whose names without suffix are those of photos"
    )
    parser.add_argument("--attribute", required=True, metavar="NAME", help="what was edited: hair, lips, skin, ...")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what the edits were asked to show")
    regions = parser.add_mutually_exclusive_group()
    regions.add_argument("--labels", type=Path, metavar="DIR", help="label maps (PNG, CelebAMask-HQ's classes)")
    regions.add_argument(
        "--parser", metavar="NAME", help="a parser, or a checkpoint's folder or hub id (default: the shipped one)"
    )
    parser.add_argument("--resize", choices=("fit", "stretch"), help="edits of another aspect ratio than their photo's")
    parser.add_argument("--protocol", choices=("strict", "thesis"), default="strict", help="default: strict")
    parser.add_argument("--weights", metavar="DIR", help="weights of LPIPS, CLIP and FID (without: empty columns)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    parser.add_argument("--out", type=Path, metavar="RUN", help="default: outputs/score/EDITS-<digest>")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.score.folders import score

    return score(arguments)

"""``semfacediff prepare``: convert the official CelebAMask-HQ layout to label maps or WebDataset shards."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import positive

HELP = "convert the official CelebAMask-HQ layout to label maps or WebDataset shards"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, help="folder of CelebA-HQ-img/ and CelebAMask-HQ-mask-anno/")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder, or one to continue")
    parser.add_argument("--layout", choices=("folder", "shards"), default="folder")
    parser.add_argument("--split", choices=("train", "val", "test", "all"), default="all")
    parser.add_argument("--paint-order", choices=("official", "segface"), default="official")
    parser.add_argument("--shard-size", type=positive, default=1000, help="photos per tar (default: 1000)")
    parser.add_argument("--workers", type=positive, help="processes (default: one per available core)")
    parser.add_argument("--allow-mask-resize", action="store_true", help="resize part masks of another size or shape")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.prepare.files import Settings
    from semfacediff.commands.prepare.folder import prepare

    a = arguments
    settings = Settings(a.layout, a.split, a.paint_order, a.shard_size, a.allow_mask_resize)
    return prepare(a.root.expanduser(), a.out.expanduser(), settings, a.workers)

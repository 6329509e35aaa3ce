"""``semfacediff``: everything that is not a Hydra run."""

import argparse
import sys
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.hydra_app import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_MISTAKE


def _tables(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.named import write_tables

    stale = write_tables(arguments.name, repository(), arguments.check)
    for name in stale:
        print(f"error: results/tables/{name}.md is stale; run: semfacediff tables {name}", file=sys.stderr)
    return EXIT_INCOMPLETE if stale else 0


def _prepare(arguments: argparse.Namespace) -> int:
    from semfacediff.runs.prepare import prepare
    from semfacediff.runs.prepare_files import Settings

    a = arguments
    settings = Settings(a.layout, a.split, a.paint_order, a.shard_size, a.allow_mask_resize)
    return prepare(a.root.expanduser(), a.out.expanduser(), settings, a.workers)


def _add_prepare(commands) -> None:
    prepare = commands.add_parser("prepare", help="official CelebAMask-HQ layout to label maps or WebDataset shards")
    prepare.add_argument("root", type=Path, help="folder of CelebA-HQ-img/ and CelebAMask-HQ-mask-anno/")
    prepare.add_argument("--out", type=Path, required=True, help="an empty folder, or one to be continued")
    prepare.add_argument("--layout", choices=("folder", "shards"), default="folder")
    prepare.add_argument("--split", choices=("train", "val", "test", "all"), default="all")
    prepare.add_argument("--paint-order", choices=("official", "segface"), default="official")
    prepare.add_argument("--shard-size", type=_positive, default=1000, help="photos a tar (default: 1000)")
    prepare.add_argument("--workers", type=_positive, help="processes (default: one a core)")
    prepare.add_argument("--allow-mask-resize", action="store_true", help="resize part masks of another size or shape")
    prepare.set_defaults(run=_prepare)


def _parse(arguments: argparse.Namespace) -> int:
    from semfacediff.runs.parse_photos import parse_photos

    a = arguments
    source, out = a.photo.expanduser(), a.out.expanduser()
    return parse_photos(source, out, a.checkpoint, a.parser, a.label_space, a.overlay, a.device)


def _add_parse(commands) -> None:
    parse = commands.add_parser("parse", help="label maps, coverage and confidence of a photo or a folder of photos")
    parse.add_argument("photo", type=Path, metavar="PHOTO|DIR", help="a photo, or a folder of photos (not nested)")
    parse.add_argument("--out", type=Path, required=True, help="folder for the label maps (palette PNG) and JSON files")
    parse.add_argument("--checkpoint", metavar="RUN", help="run of train_parser.py, checkpoint folder or weights file")
    parse.add_argument("--parser", metavar="NAME", help="architecture of a bare weights file")
    parse.add_argument("--label-space", metavar="NAME", help="write labels of this space (default: the parser's own)")
    parse.add_argument("--overlay", action="store_true", help="also write the classes' colours over the photo")
    parse.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parse.set_defaults(run=_parse)


def _doctor(arguments: argparse.Namespace) -> int:
    from semfacediff.runs.doctor import doctor

    return doctor(arguments.root, arguments.json)


def _add_doctor(commands) -> None:
    doctor = commands.add_parser("doctor", help="what is there, and what each command would need; fetches nothing")
    doctor.add_argument("--root", help="folder of weights, as weights.root")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=_doctor)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def main(words: list[str] | None = None) -> int:
    """Parse the command line and run the subcommand; returns its exit code."""
    parser = argparse.ArgumentParser("semfacediff", description="Records to tables. Runs: train_parser.py, evaluate.py")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tables = commands.add_parser("tables", help="render tables from records into results/tables")
    tables.add_argument("name", nargs="*", help="tables of experiments/tables (default: all)")
    tables.add_argument("--check", action="store_true", help="write nothing; fail if a committed table is stale")
    tables.set_defaults(run=_tables)
    _add_prepare(commands)
    _add_doctor(commands)
    _add_parse(commands)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

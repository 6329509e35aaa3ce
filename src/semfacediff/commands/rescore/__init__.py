"""``semfacediff rescore``: fill columns of a finished run from its saved edits."""

import argparse
from pathlib import Path

HELP = "fill columns of a finished run from its saved edits, without new edits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN|SWEEP", help="folders of editing runs or sweeps")
    parser.add_argument("--add", required=True, metavar="METRIC[,METRIC...]", help="as in metrics.columns: lpips,clip")
    parser.add_argument("--weights", metavar="DIR", help="folder of weights, as weights.root")
    parser.add_argument("--data", metavar="DIR", help="folder of the photos (default: SEMFACEDIFF_DATA)")
    parser.add_argument("--parser", metavar="FOLDER", help="parser of the run, if it is no longer where it was")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a place, such as weights.clip=FILE"
    )


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.rescore.recorded import recorded_settings
    from semfacediff.records.ledger import runs_of
    from semfacediff.tasks.editing.rescore import rescore
    from semfacediff.threads import use_threads

    a = arguments
    places = {"weights.root": a.weights, "data.root": a.data, "parser.checkpoint": a.parser, "runtime.device": a.device}
    codes = []
    for folder in runs_of([folder.expanduser() for folder in a.runs]):
        settings = recorded_settings(folder, {key: value for key, value in places.items() if value}, a.set)
        use_threads(settings.runtime.threads)
        codes.append(rescore(folder, settings, [*dict.fromkeys(filter(None, a.add.split(",")))]))
    return max(codes)

"""``semfacediff report``: write records as one HTML page, without server or network."""

import argparse
from pathlib import Path

from semfacediff.errors import UserError

HELP = "write records as one HTML page, without server or network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN|SWEEP", help="folders of runs or sweeps")
    parser.add_argument(
        "--tokens", nargs=2, metavar=("RUN", "PHOTO"), help="instead: draw the attention of a SegFace's class tokens"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: outputs/report/<names of the runs>")
    parser.add_argument("--with-photos", action="store_true", help="include thumbnails of the worst and best edits")
    parser.add_argument("--rank", metavar="SCORE", help="score that ranks edits (default: the first that differs)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the photos (default: SEMFACEDIFF_DATA)")
    parser.add_argument("--parser", type=Path, metavar="FOLDER", help="parser of the runs (default: as recorded)")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.report.page import ReportOptions, report
    from semfacediff.records.ledger import runs_of

    a = arguments
    if bool(a.runs) == bool(a.tokens):
        raise UserError("report: name the folders of runs, or --tokens RUN PHOTO for a figure of a SegFace's tokens")
    if a.tokens:
        from semfacediff.commands.report.token_figure import token_report

        checkpoint, photo = (Path(word).expanduser() for word in a.tokens)
        print(token_report(checkpoint, photo, a.out and a.out.expanduser()))
        return 0
    options = ReportOptions(a.with_photos, a.rank, a.data and a.data.expanduser(), a.parser and a.parser.expanduser())
    print(report(runs_of([run.expanduser() for run in a.runs]), a.out and a.out.expanduser(), options))
    return 0

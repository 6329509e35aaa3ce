"""``semfacediff track``: upload records to Weights & Biases."""

import argparse
from pathlib import Path

HELP = "upload records to Weights & Biases"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    sync = actions.add_parser("sync", help="upload new data of these runs; safe to repeat")
    sync.add_argument("runs", nargs="+", type=Path, metavar="RUN|SWEEP", help="folders of runs or sweeps")
    sync.add_argument("--mode", choices=("auto", "online", "offline"), help="default: the run's, else auto")
    sync.add_argument("--project", help="default: the run's, else that of conf/tracking/wandb.yaml")
    sync.add_argument("--entity", help="W&B user or team")
    sync.add_argument("--group", help="default: the run's, else its name")
    sync.add_argument("--tag", dest="tags", action="append", help="may be repeated")
    sync.add_argument("--images", action="store_true", default=None, help="send figures too; they show people's photos")
    sync.add_argument("--artifact", action="store_true", default=None, help="upload the record's files too")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.track.sync import track_sync
    from semfacediff.records.ledger import runs_of

    a = vars(arguments)
    given = {k: a[k] for k in ("mode", "project", "entity", "group", "tags", "images", "artifact") if a[k] is not None}
    return track_sync(runs_of([run.expanduser() for run in arguments.runs]), given)

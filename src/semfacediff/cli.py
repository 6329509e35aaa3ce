"""``semfacediff``: everything that is not a Hydra run."""

import argparse
import os
import sys
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.hydra_app import EXIT_INCOMPLETE, EXIT_INTERRUPTED, EXIT_MISTAKE
from semfacediff.scripts import COMMANDS, start
from semfacediff.threads import announce


def _tables(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.definitions import definitions, stale_tables, tables_to_renew, write_tables

    a = arguments
    if a.fresh and not a.check:
        raise UserError("--fresh tells what --check also refuses; write semfacediff tables --check --fresh")
    if a.check:
        stale = stale_tables(a.name, repository(), a.format)
        for file in stale:
            print(f"error: {file} is stale; run: semfacediff tables {Path(file).stem}", file=sys.stderr)
        renew = tables_to_renew(a.name, repository()) if a.fresh else {}
        for name, reasons in renew.items():
            command = definitions(repository())[name].command
            print(f"error: {name} is not fresh: {'; '.join(reasons)}; repeat: {command}", file=sys.stderr)
        return EXIT_INCOMPLETE if stale or renew else 0
    for name, runs in write_tables(a.name, repository(), a.format or "md").items():
        command = definitions(repository())[name].command
        print(f"not made: {name} needs {', '.join(runs)}; make with: {command}", file=sys.stderr)
    return 0


def _figures(arguments: argparse.Namespace) -> int:
    from semfacediff.config import repository
    from semfacediff.tables.draw_all import draw

    for run in arguments.run_folder:
        out = arguments.out / run.name if arguments.out else run / "figures"
        draw(run, out, repository(), arguments.score)
        print(out)
    return 0


def _add_figures(commands) -> None:
    figures = commands.add_parser("figures", help="draw the figures of runs and sweeps again from their records")
    figures.add_argument("run_folder", nargs="+", type=Path, metavar="RUN", help="a run, or the folder of a sweep")
    figures.add_argument("--out", type=Path, help="gets a folder for each run (default: figures/ in the run)")
    figures.add_argument("--score", nargs="+", default=[], help="of a sweep's curves (default: the usual ones)")
    figures.set_defaults(run=_figures)


def _prepare(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.prepare import prepare
    from semfacediff.commands.prepare_files import Settings

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
    prepare.add_argument("--workers", type=_positive, help="processes (default: one a core that may be used)")
    prepare.add_argument("--allow-mask-resize", action="store_true", help="resize part masks of another size or shape")
    prepare.set_defaults(run=_prepare)


def _parse(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.parse import parse_photos

    a = arguments
    source, out = a.photo.expanduser(), a.out.expanduser()
    return parse_photos(source, out, a.checkpoint, a.parser, a.label_space, a.overlay, a.device, a.backend)


def _add_parse(commands) -> None:
    parse = commands.add_parser("parse", help="label maps, coverage and confidence of a photo or a folder of photos")
    parse.add_argument("photo", type=Path, metavar="PHOTO|DIR", help="a photo, or a folder of photos (not nested)")
    parse.add_argument("--out", type=Path, required=True, help="folder for the label maps (palette PNG) and JSON files")
    parse.add_argument(
        "--checkpoint", metavar="RUN", help="run, checkpoint folder or weights file (default: the shipped one)"
    )
    parse.add_argument("--parser", metavar="NAME", help="architecture of a bare weights file")
    parse.add_argument("--label-space", metavar="NAME", help="write labels of this space (default: the parser's own)")
    parse.add_argument("--overlay", action="store_true", help="also write the classes' colours over the photo")
    parse.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    parse.add_argument("--backend", choices=("torch", "onnx"), default="torch", help="onnx: of semfacediff export")
    parse.set_defaults(run=_parse)


def _export(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.export import Order, export_parser

    a = arguments
    return export_parser(Order(a.run_folder, a.to, a.out.expanduser(), a.parser, a.int8, a.opset, a.photos))


def _add_export(commands) -> None:
    export = commands.add_parser("export", help="a trained parser as half precision weights, ONNX or torch.export")
    export.add_argument(
        "run_folder", nargs="?", metavar="RUN", help="run, checkpoint folder or weights file (default: the shipped one)"
    )
    export.add_argument("--to", choices=("half", "onnx", "torch"), required=True)
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    export.add_argument("--parser", metavar="NAME", help="architecture of a bare weights file")
    export.add_argument("--int8", action="store_true", help="with onnx: also int8/, quantised dynamically")
    export.add_argument("--opset", type=_positive, metavar="N", help="of ONNX (default: torch's choice)")
    export.add_argument("--photos", type=Path, metavar="DIR", help="compare label maps on these (default: drawn faces)")
    export.set_defaults(run=_export)


def _edit(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.edit import edit_photos
    from semfacediff.commands.photo_editing import Wish

    a = arguments
    if len(a.edits) % 2:
        raise UserError(
            f"EDITS: expected pairs ATTRIBUTE PROMPT, got {len(a.edits)} words ({', '.join(a.edits)}); quote each "
            f'prompt, as in: semfacediff edit photo.jpg hair "curly brown hair"'
        )
    wish = Wish(
        edits=list(zip(a.edits[::2], a.edits[1::2], strict=True)),
        editor=a.editor,
        seed=a.seed,
        strengths=a.strength,
        negative=a.negative,
        parser=a.parser,
        face=a.face,
        reparse=not a.no_reparse,
        order=a.order,
        weights=a.weights,
        device=a.device,
        overrides=a.set,
    )
    return edit_photos(a.photo.expanduser(), a.out.expanduser(), wish)


def _add_edit(commands) -> None:
    edit = commands.add_parser("edit", help="edit regions of a photo, or of a folder of photos, from words")
    edit.add_argument("photo", type=Path, metavar="PHOTO|DIR", help="a photo, or a folder of photos (not nested)")
    edit.add_argument("edits", nargs="+", metavar="ATTRIBUTE PROMPT", help='pairs, in order: hair "brown curls"')
    edit.add_argument("--out", type=Path, default=Path("outputs") / "edit", help="default: outputs/edit")
    edit.add_argument("--editor", default="sdxl_inpaint", help="a choice of conf/editor (default: sdxl_inpaint)")
    edit.add_argument("--parser", metavar="FOLDER", help="run or checkpoint folder (default: the shipped one)")
    edit.add_argument("--seed", type=int, default=42)
    edit.add_argument("--strength", type=_strengths, default=[], metavar="X[,X...]", help="one for all or one each")
    edit.add_argument("--negative", metavar="WORDS", help="instead of the negative prompt made from the prompt")
    edit.add_argument("--face", choices=("one", "largest", "all"), default="one", help="of a photo with several faces")
    edit.add_argument("--no-reparse", action="store_true", help="masks of all edits from the parse of the photo")
    edit.add_argument("--order", choices=("given", "anatomical"), default="given", help="of several edits")
    edit.add_argument("--weights", metavar="DIR", help="folder of weights, as weights.root")
    edit.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    edit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as evaluate.py: editor.steps=30")
    edit.set_defaults(run=_edit)


def _strengths(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers parted by commas, got '{text}'") from None


def _thesis(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.thesis import thesis

    a = arguments
    return thesis(a.run_them, a.words, a.data, a.checkpoint)


def _add_thesis(commands) -> None:
    thesis = commands.add_parser("thesis", help="the thesis's experiments and their requirements")
    thesis.add_argument("words", nargs="*", metavar="KEY=VALUE", help="for each of them: weights.root=DIR data.n=10")
    thesis.add_argument("--run", dest="run_them", action="store_true", help="run those that lack nothing, one by one")
    thesis.add_argument("--data", metavar="DIR", help="as data.root (default: SEMFACEDIFF_DATA)")
    thesis.add_argument("--checkpoint", metavar="RUN", help="as parser.checkpoint (default: a run in this checkout)")
    thesis.set_defaults(run=_thesis)


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.make_tiny:
        from semfacediff.commands.doctor import make_twins

        return make_twins(arguments.make_tiny.expanduser())
    from semfacediff.commands.doctor import doctor

    return doctor(arguments.root, arguments.json, arguments.data, arguments.checkpoint)


def _add_doctor(commands) -> None:
    doctor = commands.add_parser("doctor", help="what is there, and what each command would need; fetches nothing")
    doctor.add_argument("--root", help="folder of weights, as weights.root")
    doctor.add_argument("--data", metavar="DIR", help="as data.root (default: SEMFACEDIFF_DATA)")
    doctor.add_argument("--checkpoint", metavar="RUN", help="as parser.checkpoint (default: the runs in this checkout)")
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.add_argument("--make-tiny", type=Path, metavar="DIR", help="write tiny diffusion pipelines to try things")
    doctor.set_defaults(run=_doctor)


def _fetch(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.fetch import fetch

    return fetch(arguments.name)


def _add_fetch(commands) -> None:
    fetch = commands.add_parser("fetch", help="download weights: those that doctor says are missing, or those named")
    fetch.add_argument(
        "name", nargs="*", metavar="NAME", help="as doctor prints it, or OWNER/MODEL[/FOLDER] of the hub"
    )
    fetch.set_defaults(run=_fetch)


def _compare(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.compare import compare

    a = arguments
    print(compare(a.first.expanduser(), a.second.expanduser(), a.score, a.raw))
    return 0


def _strata(arguments: argparse.Namespace) -> int:
    from semfacediff.tasks.strata_report import strata

    print(strata(arguments.folder.expanduser(), arguments.by, arguments.score, arguments.figure))
    return 0


def _leakage(arguments: argparse.Namespace) -> int:
    from semfacediff.tasks.strata_report import leakage

    print(leakage(arguments.folder.expanduser(), arguments.attribute, arguments.figure))
    return 0


def _add_analyses(commands) -> None:
    compare = commands.add_parser("compare", help="paired differences of two runs, and of their configurations")
    compare.add_argument("first", type=Path, metavar="RUN", help="folder of a finished run")
    compare.add_argument("second", type=Path, metavar="RUN", help="another one, of the same photos and protocol")
    compare.add_argument("--score", nargs="+", default=[], help="columns (default: all that both measured)")
    compare.add_argument("--raw", action="store_true", help="also the edits before the composite")
    compare.set_defaults(run=_compare)
    strata = commands.add_parser("strata", help="a run's scores by group of faces: n, intervals, gap, worst group")
    strata.add_argument("folder", type=Path, metavar="RUN")
    strata.add_argument("--by", required=True, help="skin_tone, pose, region_size, or an annotation of the data set")
    strata.add_argument("--score", nargs="+", default=[], help="columns (default: all that were measured)")
    strata.add_argument("--figure", type=Path, metavar="FILE", help="also draw it (.pdf or .png)")
    strata.set_defaults(run=_strata)
    leakage = commands.add_parser("leakage", help="which classes a run's edits disturbed outside their regions")
    leakage.add_argument("folder", type=Path, metavar="RUN")
    leakage.add_argument("--attribute", help="one attribute's edits (default: all)")
    leakage.add_argument("--figure", type=Path, metavar="FILE", help="also draw the heat map (.pdf or .png)")
    leakage.set_defaults(run=_leakage)


def _merge(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.merge import merge

    return merge([run.expanduser() for run in arguments.runs], arguments.out.expanduser())


def _add_merge(commands) -> None:
    merge = commands.add_parser("merge", help="the record of a whole run from those of its parts (shard.index)")
    merge.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of all parts, in any order")
    merge.add_argument("--out", type=Path, required=True, help="folder of the whole run's record")
    merge.set_defaults(run=_merge)


def _report(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.report import report

    a = arguments
    if bool(a.runs) == bool(a.tokens):
        raise UserError("report: name the folders of runs, or --tokens RUN PHOTO for a figure of a SegFace's tokens")
    if a.tokens:
        from semfacediff.commands.token_figure import token_report

        checkpoint, photo = (Path(word).expanduser() for word in a.tokens)
        print(token_report(checkpoint, photo, a.out and a.out.expanduser()))
        return 0
    wish = Wish(a.with_photos, a.rank, a.data and a.data.expanduser(), a.parser and a.parser.expanduser())
    print(report([run.expanduser() for run in a.runs], a.out and a.out.expanduser(), wish))
    return 0


def _add_report(commands) -> None:
    report = commands.add_parser("report", help="records as one HTML page that needs no server and no network")
    report.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of runs, finished or not")
    report.add_argument(
        "--tokens", nargs=2, metavar=("RUN", "PHOTO"), help="instead: what a SegFace's class tokens look at, as figure"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="default: outputs/report/<names of the runs>")
    report.add_argument("--with-photos", action="store_true", help="thumbnails of the worst and best edits too")
    report.add_argument("--rank", metavar="SCORE", help="what worst and best mean (default: the first that differs)")
    report.add_argument("--data", type=Path, metavar="DIR", help="of the photos (default: SEMFACEDIFF_DATA)")
    report.add_argument("--parser", type=Path, metavar="FOLDER", help="of the runs' parser (default: as recorded)")
    report.set_defaults(run=_report)


def _track_sync(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.track import track_sync

    a = vars(arguments)
    given = {k: a[k] for k in ("mode", "project", "entity", "group", "tags", "images") if a[k] is not None}
    return track_sync([run.expanduser() for run in arguments.runs], given)


def _add_track(commands) -> None:
    track = commands.add_parser("track", help="records to Weights & Biases, afterwards")
    actions = track.add_subparsers(required=True, metavar="ACTION")
    sync = actions.add_parser("sync", help="send what W&B does not have yet of these runs; safe to repeat")
    sync.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, tracked or not")
    sync.add_argument("--mode", choices=("auto", "online", "offline"), help="default: the run's, else auto")
    sync.add_argument("--project", help="default: the run's, else that of conf/tracking/wandb.yaml; so are the others")
    sync.add_argument("--entity", help="W&B user or team")
    sync.add_argument("--group", help="default: the run's, else its name")
    sync.add_argument("--tag", dest="tags", action="append", help="may be repeated")
    sync.add_argument("--images", action="store_true", default=None, help="send figures too; they show people's photos")
    sync.set_defaults(run=_track_sync)


def _web(arguments: argparse.Namespace) -> int:
    from semfacediff.web.server import serve

    a = arguments
    return serve(a.port, a.editor, a.parser, a.weights, a.synthesis, a.device)


def _add_web(commands) -> None:
    web = commands.add_parser("web", help="a page on this computer: parse and edit a photo, browse runs")
    web.add_argument("--port", type=_positive, default=7860, help="default: 7860")
    web.add_argument("--editor", default="recolor", help="chosen at first (default: recolor)")
    web.add_argument("--parser", metavar="FOLDER", help="run or checkpoint folder (default: the shipped one)")
    web.add_argument("--weights", metavar="DIR", help="folder of weights, as weights.root")
    web.add_argument("--synthesis", metavar="RUN", help="run of train_synthesis.py, for style of a second photo")
    web.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    web.set_defaults(run=_web)


def _gpu_check(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.gpu_check import gpu_check

    return gpu_check(arguments.out.expanduser(), arguments.device, arguments.toy, arguments.only or ())


def _add_gpu_check(commands) -> None:
    check = commands.add_parser("gpu-check", help="try an accelerator: the chain at real sizes, random weights, 10 min")
    check.add_argument("--out", type=Path, default=Path("outputs/gpu_check"), metavar="DIR", help="of the record")
    check.add_argument("--device", default="auto", metavar="auto|mps|cuda|cuda:N")
    check.add_argument("--toy", action="store_true", help="tiny networks on the CPU: a rehearsal")
    check.add_argument(
        "--only", nargs="+", choices=("parser", "loader", "metrics", "inception", "sca_dm", "sdxl", "several")
    )
    check.set_defaults(run=_gpu_check)


def _init(arguments: argparse.Namespace) -> int:
    from semfacediff.commands.init import start_project

    return start_project(arguments.folder.expanduser())


def _add_init(commands) -> None:
    init = commands.add_parser("init", help="a starter project: conf/ and experiments/ of your own, with one preset")
    init.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    init.set_defaults(run=_init)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got '{text}'")
    return int(text)


def main(words: list[str] | None = None) -> int:
    """Parse the command line and run the subcommand; returns its exit code."""
    words = sys.argv[1:] if words is None else words
    if words and words[0] in COMMANDS:  # Hydra reads the other words
        start(COMMANDS[words[0]], words[1:], f"semfacediff {words[0]}")
    parser = argparse.ArgumentParser("semfacediff", description="Train, evaluate, edit; records to tables")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        commands.add_parser(name, help=f"KEY=VALUE ...: the same as {COMMANDS[name]}.py in a checkout")
    tables = commands.add_parser("tables", help="render tables from records into results/tables")
    tables.add_argument("name", nargs="*", help="of experiments/tables (default: all whose records are there)")
    tables.add_argument("--check", action="store_true", help="write nothing; fail if a committed table is stale")
    tables.add_argument(
        "--fresh", action="store_true", help="with --check: also fail on records that should be renewed"
    )
    tables.add_argument("--format", choices=("md", "tex", "csv"), help="default: md; with --check all that are there")
    tables.set_defaults(run=_tables)
    _add_figures(commands)
    _add_prepare(commands)
    _add_doctor(commands)
    _add_fetch(commands)
    _add_thesis(commands)
    _add_parse(commands)
    _add_export(commands)
    _add_edit(commands)
    _add_merge(commands)
    _add_track(commands)
    _add_analyses(commands)
    _add_report(commands)
    _add_web(commands)
    _add_gpu_check(commands)
    _add_init(commands)
    arguments = parser.parse_args(words)
    announce()
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

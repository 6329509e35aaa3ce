"""``semfacediff export``: export a trained parser in another form, or the record of a run as one zip."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import positive
from semfacediff.errors import UserError

HELP = "export a trained parser (half, hf, onnx, torch), or the record of a run without photos (zip)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folder", nargs="?", metavar="RUN", help="run, checkpoint folder or weights file (default: the shipped one)"
    )
    parser.add_argument("--to", choices=("half", "hf", "onnx", "torch", "zip"), required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder; with zip: FILE.zip")
    parser.add_argument("--parser", metavar="NAME", help="architecture of a bare weights file")
    parser.add_argument("--int8", action="store_true", help="with onnx: also int8/, quantised dynamically")
    parser.add_argument("--opset", type=positive, metavar="N", help="ONNX operator set (default: torch's choice)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="compare label maps on these (default: drawn faces)")
    parser.add_argument("--push", metavar="NAME", help="with hf: also upload it as OWNER/MODEL, after a question")
    parser.add_argument("--edits", action="store_true", help="with zip: also the edited photos")


def run(arguments: argparse.Namespace) -> int:
    a = arguments
    of_parsers = {key: getattr(a, key) for key in ("parser", "int8", "opset", "photos", "push")}
    if a.to == "zip":
        if a.run_folder is None or any(of_parsers.values()):
            given = next((f"--{key} is of parsers" for key, value in of_parsers.items() if value), "RUN is not named")
            raise UserError(f"--to zip: {given}; run: semfacediff export RUN --to zip --out FILE.zip [--edits]")
        from semfacediff.commands.export.record_zip import export_records

        return export_records(Path(a.run_folder).expanduser(), a.out.expanduser(), a.edits)
    if a.edits:
        raise UserError(f"--to {a.to}: --edits is for --to zip; drop it")
    from semfacediff.commands.export.parser import ExportOptions, export_parser

    return export_parser(
        ExportOptions(a.run_folder, a.to, a.out.expanduser(), a.parser, a.int8, a.opset, a.photos, a.push)
    )

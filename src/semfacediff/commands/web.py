"""``semfacediff web``: serve a local web page to edit photos and browse runs."""

import argparse

from semfacediff.commands.arguments import positive

HELP = "serve a local web page to edit photos and browse runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=positive, default=7860, help="default: 7860")
    parser.add_argument("--editor", default="recolor", help="initial editor (default: recolor)")
    parser.add_argument("--parser", metavar="FOLDER", help="run or checkpoint folder (default: the shipped one)")
    parser.add_argument("--weights", metavar="DIR", help="folder of weights, as weights.root")
    parser.add_argument("--synthesis", metavar="RUN", help="run of train_synthesis.py, for the tab with two photos")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")


def run(arguments: argparse.Namespace) -> int:
    from semfacediff.web.server import serve

    a = arguments
    return serve(a.port, a.editor, a.parser, a.weights, a.synthesis, a.device)

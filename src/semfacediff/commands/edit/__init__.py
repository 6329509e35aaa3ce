"""``semfacediff edit``: edit regions of a photo, or of a folder of photos, from text prompts."""

import argparse
from pathlib import Path

from semfacediff.commands.arguments import existing_photo
from semfacediff.errors import UserError

HELP = "edit regions of a photo, or of a folder of photos, from text prompts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, metavar="PHOTO|DIR", help="a photo, or a folder of photos (not nested)")
    parser.add_argument("edits", nargs="+", metavar="ATTRIBUTE PROMPT", help='pairs, in order: hair "brown curls"')
    parser.add_argument("--out", type=Path, default=Path("outputs") / "edit", help="default: outputs/edit")
    parser.add_argument("--editor", default="sdxl_inpaint", help="a choice of conf/editor (default: sdxl_inpaint)")
    parser.add_argument("--parser", metavar="FOLDER", help="run or checkpoint folder (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--strength", type=_strengths, default=[], metavar="X[,X...]", help="one value for all edits, or one per edit"
    )
    parser.add_argument("--negative", metavar="WORDS", help="negative prompt (default: derived from the prompt)")
    parser.add_argument(
        "--face", choices=("one", "largest", "all"), default="one", help="which face to edit if there are several"
    )
    parser.add_argument(
        "--mask", type=Path, metavar="FILE", help="grey image of the region, white = edit (default: from the parse)"
    )
    parser.add_argument("--no-reparse", action="store_true", help="take all masks from the first parse")
    parser.add_argument("--order", choices=("given", "anatomical"), default="given", help="order of several edits")
    parser.add_argument("--weights", metavar="DIR", help="folder of weights, as weights.root")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|mps|cuda|cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of evaluate.py, such as editor.steps=30"
    )


def run(arguments: argparse.Namespace) -> int:
    a = arguments
    photo = existing_photo(a.photo)
    if len(a.edits) % 2:
        raise UserError(
            f"EDITS: expected pairs ATTRIBUTE PROMPT, got {len(a.edits)} arguments ({', '.join(a.edits)}); quote each "
            f'prompt, as in: semfacediff edit photo.jpg hair "curly brown hair"'
        )
    from semfacediff.labels import attribute_classes

    for attribute in a.edits[::2]:
        attribute_classes(attribute)
    from semfacediff.commands.edit.one_photo import EditOptions  # takes seconds, unlike what was checked
    from semfacediff.commands.edit.photos import edit_photos

    options = EditOptions(
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
        mask=a.mask.expanduser() if a.mask else None,
    )
    return edit_photos(photo, a.out.expanduser(), options)


def _strengths(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, got '{text}'") from None

"""``semfacediff report --tokens``: attention of a SegFace's class tokens on a photo."""

from pathlib import Path

import torch

from semfacediff import config
from semfacediff.data.reading import Blob, decode_photo
from semfacediff.data.square import to_square
from semfacediff.parsing import ModelParser
from semfacediff.parsing.opening import open_trained
from semfacediff.parsing.segface.attention import watched
from semfacediff.tables.drawing import save_figure
from semfacediff.tables.token_figures import token_figure
from semfacediff.types import to_tensor

FIGURE = "tokens"


def token_report(checkpoint: Path, photo: Path, out: Path | None) -> Path:
    """Write ``tokens.png`` and ``tokens.pdf``; returns the first.

    The photo is parsed as ``semfacediff parse`` does, without landmarks.

    Args:
        checkpoint: training run or checkpoint folder. out: by default ``outputs/report/<checkpoint>-tokens-<photo>``.

    Raises:
        UserError: not a SegFace, an unreadable photo, or the figure cannot be written.
    """
    model, card, _ = open_trained(config.ParserConfig.trained(str(checkpoint)))
    parser = ModelParser(model, card, torch.device("cpu"))
    with watched(model) as watch:
        square, _ = to_square(decode_photo(Blob(photo, photo.name).read(), photo.name), card.input_size)
        logits = parser.logits(to_tensor(square)[None])
        attention = watch.attention(square.shape[:2])
    title = f"{card.name}, {checkpoint.resolve().name}: attention of each token, attention to it, and its segmentation"
    tokens, image, found = (m[0].numpy() for m in (attention.tokens, attention.image, logits.softmax(1)))
    figure = token_figure(square, parser.label_space.classes, tokens, image, found, title)
    folder = out or Path("outputs") / "report" / f"{checkpoint.resolve().name}-{FIGURE}-{photo.stem}"
    save_figure(figure, folder / FIGURE)
    return folder / f"{FIGURE}.png"

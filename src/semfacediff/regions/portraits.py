"""The parse of a photo that need not be an aligned portrait: each face that is found is parsed again in its own frame.

Parsers of CelebAMask-HQ know photos that a face fills. In others they mostly find the face and get the rest wrong: a
suit becomes skin, a helmet a hat. Framed as in CelebA-HQ, the same face is parsed as a portrait is; what was none is
parsed unsurely in its frame too, and dropped. Where the whole photo shows nothing of the kind, windows of it may.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace
from semfacediff.parsing.any_photo import ParsedPhoto, parse_any
from semfacediff.parsing.predict import ModelParser
from semfacediff.regions.faces import Faces, find_faces

Box = tuple[slice, slice]
"""Rows and columns."""
_Parse = Callable[[np.ndarray], ParsedPhoto]

_PORTRAIT = 0.45
"""A lone face that spans this share of the photo's longer side makes it a portrait. CelebA-HQ's span 0.5 to 1."""
_FRAME = 1 / _PORTRAIT
"""Side of a frame, in spans of its face."""
_SURE = 0.85
"""Mean largest softmax of a frame that shows a face. Portraits of CelebA-HQ: 0.95 in the median, 0.85 at 2 %."""
_FILLED = 0.1
"""Share of its frame that a face covers at least."""
_WINDOWS = (2, 3)
"""Windows are this often as small as the photo's shorter side, and overlap by half."""
_MAX_ASPECT = 10
"""Longer side, in shorter ones: a panorama, but not a strip that would take thousands of windows."""
_MAX_WINDOWS = 120
"""Of a size. Photos of up to 4 to 1 take fewer; in longer ones they lie farther apart. Frames are as many at most."""


@dataclass(frozen=True)
class _Frame:
    """Rows and columns around a face, and its middle, in px of the photo."""

    box: Box
    middle: tuple[float, float]
    side: float


def parse_faces(
    parser: ModelParser, photo: np.ndarray, name: str = "the photo", before_each: Callable[[], None] | None = None
) -> ParsedPhoto:
    """Parse a photo (uint8 ``[H, W, 3]``) of any size that shows one or several faces of any size.

    A portrait is parsed once, as :func:`semfacediff.parsing.any_photo.parse_any` does. Otherwise every face found gets
    a frame, and pixels take the parse of the nearest frame; beyond all frames they are background (0), and the
    confidences speak of the frames alone. Where no frame shows a face, the first parse stands. A photo without faces
    that is parsed unsurely is parsed about thirty times, a long one some hundred times.

    Args:
        name: of the photo, for a message.
        before_each: called before each of these parses; what it raises ends them.

    Raises:
        UserError: one side is over :data:`_MAX_ASPECT` times as long as the other.
    """
    height, width = photo.shape[:2]
    if max(height, width) > _MAX_ASPECT * min(height, width):
        raise UserError(
            f"{name}: {width}x{height} px; to be parsed, a photo's longer side may be at most {_MAX_ASPECT} times the "
            f"shorter one; crop it"
        )

    def parse(part: np.ndarray) -> ParsedPhoto:
        if before_each:
            before_each()
        return parse_any(parser, part)

    whole, space = parse(photo), parser.label_space
    faces = find_faces(whole.labels, space)
    if _is_portrait(faces, photo.shape):
        return whole
    shown = _framed(parse, photo, faces.boxes, space)
    for part in _WINDOWS if whole.overall < _SURE else ():
        shown = shown or _framed(parse, photo, _distinct(_in_windows(parse, photo, part, space)), space)
    return _joined(shown, photo.shape[:2]) if shown else whole


def _is_portrait(faces: Faces, shape: tuple[int, ...]) -> bool:
    return len(faces.boxes) == 1 and _span(faces.boxes[0]) >= _PORTRAIT * max(shape[:2])


def _span(box: Box) -> int:
    return max(side.stop - side.start for side in box)


def _in_windows(parse: _Parse, photo: np.ndarray, part: int, space: LabelSpace) -> Iterator[Box]:
    """Faces in windows that are ``part`` times as small as the photo's shorter side."""
    side = max(1, min(photo.shape[:2]) // part)
    starts = [range(0, n - side + 1, max(1, side // 2)) for n in photo.shape[:2]]
    if len(starts[0]) * len(starts[1]) > _MAX_WINDOWS:  # that of the shorter side stays as it is
        most = _MAX_WINDOWS // min(map(len, starts))
        starts = [each[:: -(-len(each) // most)] if len(each) > most else each for each in starts]
    for top, left in itertools.product(*starts):
        window = parse(photo[top : top + side, left : left + side])
        for rows, columns in find_faces(window.labels, space).boxes:
            yield slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)


def _distinct(boxes: Iterator[Box]) -> list[Box]:
    """The largest first, and none whose middle lies in a larger one: windows see a face several times."""
    kept: list[Box] = []
    for box in sorted(boxes, key=_span, reverse=True):
        middle = [(side.start + side.stop) / 2 for side in box]
        if not any(all(s.start <= m < s.stop for s, m in zip(other, middle, strict=True)) for other in kept):
            kept.append(box)
    return kept


def _framed(
    parse: _Parse, photo: np.ndarray, boxes: Sequence[Box], space: LabelSpace
) -> list[tuple[_Frame, ParsedPhoto]]:
    """The frames around ``boxes`` that show a face, parsed."""
    frames = [_frame(box, photo.shape) for box in boxes[:_MAX_WINDOWS]]
    parsed = [(frame, parse(photo[frame.box])) for frame in frames]
    return [(frame, part) for frame, part in parsed if _shows_a_face(part, space)]


def _frame(box: Box, shape: tuple[int, ...]) -> _Frame:
    side = _FRAME * _span(box)
    middle = tuple((extent.start + extent.stop) / 2 for extent in box)
    rows, columns = (
        slice(max(0, round(m - side / 2)), min(n, round(m + side / 2))) for m, n in zip(middle, shape, strict=False)
    )
    return _Frame((rows, columns), middle, side)


def _shows_a_face(part: ParsedPhoto, space: LabelSpace) -> bool:
    shares = find_faces(part.labels, space).shares
    return part.overall >= _SURE and bool(shares) and shares[0] >= _FILLED


def _joined(shown: list[tuple[_Frame, ParsedPhoto]], shape: tuple[int, int]) -> ParsedPhoto:
    labels, nearest = np.zeros(shape, np.uint8), np.full(shape, np.inf)
    for frame, part in shown:
        rows, columns = np.ogrid[frame.box]
        away = np.hypot(rows - frame.middle[0], columns - frame.middle[1]) / frame.side
        taken = away < nearest[frame.box]
        labels[frame.box][taken], nearest[frame.box][taken] = part.labels[taken], away[taken]
    counted = np.sum([part.pixels for _, part in shown], axis=0)
    sure = np.sum([part.pixels * np.nan_to_num(part.confidence) for _, part in shown], axis=0)
    with np.errstate(invalid="ignore"):
        confidence = sure / counted
    pixels = np.bincount(labels.ravel(), minlength=len(counted))
    return ParsedPhoto(labels, pixels, confidence, float(sure.sum() / counted.sum()))

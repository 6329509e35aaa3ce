"""``attributes.csv``: what is known of the photos of a folder or of shards besides their labels.

    id,Eyeglasses,Smiling,yaw
    17,true,false,-3.25
    18,false,,12.5

``true`` and ``false`` are truth values, numbers are numbers, everything else is text, and an empty cell says nothing.
Ids without a photo are passed over: one list may serve many selections.
"""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from semfacediff.errors import UserError

ATTRIBUTES_FILE = "attributes.csv"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TRUTH = {"true": True, "false": False}

Value = str | float | bool


def attributes_text(attributes: Mapping[str, Mapping[str, Value]]) -> str:
    """Contents of the file for id -> attributes; columns in the order in which they first occur."""
    columns = list(dict.fromkeys(name for row in attributes.values() for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", *columns])
    writer.writerows([id_, *(_written(row.get(c)) for c in columns)] for id_, row in attributes.items())
    return out.getvalue()


def _written(value: Value | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_attributes(root: Path) -> dict[str, dict[str, Value]]:
    """Id -> attributes of ``root/attributes.csv``; none where there is no such file.

    Raises:
        UserError: unreadable, without a header that begins with ``id``, a line with another number of cells, or an id
            that occurs twice.
    """
    file = root / ATTRIBUTES_FILE
    if not file.exists():
        return {}
    try:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{file}: cannot be read ({e}); fix it, or remove it to go without attributes") from e
    columns = rows[0] if rows else []
    if columns[:1] != ["id"] or len(set(columns)) < len(columns) or "" in columns:
        raise UserError(f"{file}: expected a first line 'id,<name>,<name>...', got '{','.join(columns)[:80]}'")
    found, read = {}, {}  # the same few texts fill most of a large file
    for n, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(columns):
            raise UserError(f"{file}, line {n}: expected {len(columns)} cells as in the first line, got {len(row)}")
        if row[0] in found:
            raise UserError(f"{file}, line {n}: '{row[0]}' occurs twice; remove one of the two lines")
        for text in row:
            if text not in read:
                read[text] = _value(text)
        found[row[0]] = {c: read[t] for c, t in zip(columns[1:], row[1:], strict=True) if t != ""}
    return found


def _value(text: str) -> Value:
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    return float(text) if _NUMBER.fullmatch(text) else text

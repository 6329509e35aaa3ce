"""What lies where in the official CelebAMask-HQ folder, read from names and lists alone; no image is opened here.

    CelebA-HQ-img/<i>.jpg                                       photos, 1024 px
    CelebAMask-HQ-mask-anno/<i // 2000>/<i:05d>_<part>.png      one mask a part, 512 px; an absent part has no file
    CelebA-HQ-to-CelebA-mapping.txt                             idx, orig_idx, orig_file; with a header line or without
    list_eval_partition.txt                                     orig_file, 0 (train) | 1 (val) | 2 (test), all of CelebA
    CelebAMask-HQ-attribute-anno.txt, CelebAMask-HQ-pose-anno.txt     optional

A photo belongs to the part of CelebA that its original belongs to: 24,183 / 2,993 / 2,824.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from semfacediff.data.files import Entry
from semfacediff.data.reading import Blob
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES

PHOTOS, PARTS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
MAPPING, PARTITION = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"
ATTRIBUTES, POSE = "CelebAMask-HQ-attribute-anno.txt", "CelebAMask-HQ-pose-anno.txt"
PHOTOS_PER_FOLDER = 2000
SPLIT_OF_GROUP = {0: "train", 1: "val", 2: "test"}
PAINT_ORDERS = ("official", "segface")
_PART_NAMES = frozenset(CELEBAMASK.classes[1:])
_PHOTO_NAME = re.compile(r"(0|[1-9]\d*)\.jpe?g", re.IGNORECASE)
_PART_NAME = re.compile(r"(\d{5,})_(\w+)\.png")
_LIKE_A_PART = re.compile(r"(\d+)[ _-]*[A-Za-z]")  # 1_hair.png, 00001-Hair.PNG: meant for photo 1


def paint_order(name: str) -> tuple[str, ...]:
    """Parts in the order in which they are painted, a later one over an earlier one.

    ``official``: the data set's own script (cloth last); ``segface``: SegFace's (skin over neck, accessories last).
    """
    return SPACES[{"official": "celebamask", "segface": "segface"}[name]].paint_order


@dataclass(frozen=True)
class OfficialEntry(Entry):
    """One photo of the layout before it is read.

    Attributes:
        id: the photo's stem, e.g. ``"17"``.
        photo: where its bytes lie.
        defect: why it cannot be a sample, known before it is read: part masks that seem to be this photo's and were
            passed over, so that its label map would lack them.
        attributes: annotations, empty where there are none for this photo.
        parts: class name -> part mask; what has no file is absent in the photo.
        split: ``train``, ``val`` or ``test``; ``None`` where the lists do not tell.
    """

    photo: Blob
    parts: Mapping[str, Blob] = field(default_factory=dict)
    split: str | None = None

    @property
    def blobs(self) -> list[Blob]:
        return [self.photo, *self.parts.values()]


@dataclass(frozen=True)
class OfficialIndex:
    """Contents of an official folder.

    Attributes:
        entries: sorted by id.
        odd: sentences on files that belong to no photo and lists that do not fit; nothing was built on them.
        unsplit: id -> why the lists do not say which split it belongs to.
        unannotated: ids without attributes, though there are annotation files.
        missing: photo that the mapping lists and the folder lacks -> its split, ``None`` where the lists do not tell.
    """

    entries: tuple[OfficialEntry, ...]
    odd: tuple[str, ...]
    unsplit: Mapping[str, str]
    unannotated: tuple[str, ...]
    missing: Mapping[str, str | None]


def index_official(root: Path, labels_needed: bool = True) -> OfficialIndex:
    """Everything in the official folder ``root``.

    Raises:
        UserError: a folder is missing, there is no photo, or a list cannot be read.
    """
    photos, odd = _photos(root)
    parts: dict[int, dict[str, Blob]] = {}
    faults: dict[str, str] = {}
    if labels_needed:
        parts, faults = _parts(root, photos)
        odd += [f"{file}: {fault}; passed over" for file, fault in faults.items()]
    defects = _defects(faults)
    splits, unsplit, missing = _splits(root, photos)
    annotations, annotated = _annotations(root)
    entries = [
        OfficialEntry(
            str(i),
            blob,
            defect=defects.get(i),
            attributes=annotations.get(i, {}),
            parts=parts.get(i, {}),
            split=splits.get(i),
        )
        for i, blob in photos.items()
    ]
    lacking = tuple(str(i) for i in sorted(photos) if annotated and i not in annotations)
    return OfficialIndex(tuple(sorted(entries, key=lambda e: e.id)), tuple(odd), unsplit, lacking, missing)


def _listed(folder: Path, what: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as e:
        raise UserError(
            f"{what}: expected the folder {folder} of the official layout, found none ({e.strerror}); set data.root "
            f"(or the folder given) to what holds {PHOTOS}/ and {PARTS}/"
        ) from e


def _photos(root: Path) -> tuple[dict[int, Blob], list[str]]:
    found, odd = {}, []
    for name in _listed(root / PHOTOS, "photos"):
        if name.startswith("."):
            continue
        match = _PHOTO_NAME.fullmatch(name)
        if match is None:
            odd.append(f"{PHOTOS}/{name}: expected <number>.jpg; passed over")
        elif int(match[1]) in found:
            odd.append(f"{PHOTOS}/{name}: a second photo {match[1]}; passed over")
        else:
            found[int(match[1])] = Blob(root / PHOTOS / name, f"{PHOTOS}/{name}")
    if not found:
        raise UserError(f"photos: no <number>.jpg in {root / PHOTOS}; copy the official photos there")
    return found, odd


def _parts(root: Path, photos: Mapping[int, Blob]) -> tuple[dict[int, dict[str, Blob]], dict[str, str]]:
    """Part masks by photo number, and what is wrong with the files that are none (file -> reason)."""
    found: dict[int, dict[str, Blob]] = defaultdict(dict)
    faults = {}
    for folder in _listed(root / PARTS, "part masks"):
        if not (root / PARTS / folder).is_dir():
            faults[f"{PARTS}/{folder}"] = "expected folders named 0, 1, 2 ..."
            continue
        for name in _listed(root / PARTS / folder, "part masks"):
            fault = _misplaced(folder, name, photos)
            if fault is None:
                number, part = name.removesuffix(".png").split("_", 1)
                relative = f"{PARTS}/{folder}/{name}"
                found[int(number)][part] = Blob(root / relative, relative)
            elif not name.startswith("."):
                faults[f"{PARTS}/{folder}/{name}"] = fault
    return found, faults


def _defects(faults: Mapping[str, str]) -> dict[int, str]:
    """Photo number -> the odd files that by their names are masks of its parts; file -> reason in ``faults``."""
    found = defaultdict(list)
    for file, fault in faults.items():
        match = _LIKE_A_PART.match(Path(file).name)
        if match:
            found[int(match[1])].append(f"{file}: {fault}")
    return {i: f"{', '.join(reasons)}; rename or remove it" for i, reasons in found.items()}


def _misplaced(folder: str, name: str, photos: Mapping[int, Blob]) -> str | None:
    """What keeps a file from being a part mask, judged by its name and folder; ``None`` if nothing does."""
    match = _PART_NAME.fullmatch(name)
    if match is None or match[1] != f"{int(match[1]):05d}":
        return "expected <five digits>_<part>.png"
    if match[2] not in _PART_NAMES:
        return f"unknown part '{match[2]}'"
    if folder != str(int(match[1]) // PHOTOS_PER_FOLDER):
        return f"part masks of photo {int(match[1])} belong into folder {int(match[1]) // PHOTOS_PER_FOLDER}"
    return None if int(match[1]) in photos else f"a part mask without a photo {int(match[1])}.jpg"


# --------------------------------------------------------------------------------------------------------------------
# Lists.


def _lines(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(where, fields) of every line that is not blank; fields are parted by blanks or commas."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is no text"
        raise UserError(f"{file}: cannot be read ({reason}); copy the official file there") from e
    for n, line in enumerate(text.splitlines(), 1):
        fields = line.replace(",", " ").split()
        if fields:
            yield f"{file.name}, line {n}", fields


def read_mapping(file: Path) -> dict[int, str]:
    """Photo number -> stem of its original in CelebA.

    Raises:
        UserError: unreadable, a line that is not ``idx orig_idx orig_file``, or a number that occurs twice.
    """
    originals: dict[int, str] = {}
    told: dict[int, str] = {}  # where each was named
    for k, (where, fields) in enumerate(_lines(file)):
        if k == 0 and not fields[0].isdecimal():
            continue  # the header line
        if len(fields) != 3 or not fields[0].isdecimal() or not fields[1].isdecimal():
            raise UserError(f"{where}: expected 'idx orig_idx orig_file', got '{' '.join(fields)}'; copy it again")
        number = int(fields[0])
        if number in originals:
            raise UserError(f"{where}: photo {number} occurs twice, first in {told[number]}; copy the file again")
        originals[number], told[number] = Path(fields[2]).stem, where
    return originals


def read_partition(file: Path) -> dict[str, str]:
    """Stem of an original in CelebA -> ``train``, ``val`` or ``test``.

    Raises:
        UserError: unreadable, a line that is not ``orig_file 0|1|2``, or an original that is put into two parts.
    """
    groups: dict[str, str] = {}
    told: dict[str, str] = {}  # where each was named
    for k, (where, fields) in enumerate(_lines(file)):
        if k == 0 and not fields[-1].isdecimal():
            continue  # a header line
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise UserError(f"{where}: expected 'orig_file 0|1|2', got '{' '.join(fields)}'; copy the file again")
        original, group = Path(fields[0]).stem, SPLIT_OF_GROUP[int(fields[1])]
        if groups.get(original, group) != group:
            raise UserError(
                f"{where}: {fields[0]} is put into {group}, but into {groups[original]} by {told[original]}; remove "
                f"one of the two lines, or copy the file again"
            )
        groups[original] = group
        told.setdefault(original, where)
    return groups


def _splits(root: Path, photos: Mapping[int, Blob]) -> tuple[dict[int, str], dict[str, str], dict[str, str | None]]:
    """Split by photo number, why a photo has none, and (name -> split) the photos that are listed and not there.

    Lists that are not there leave all photos without a split.
    """
    lists = (root / MAPPING, root / PARTITION)
    absent = [f.name for f in lists if not f.exists()]
    originals = read_mapping(lists[0]) if lists[0].exists() else {}
    groups = {} if absent else read_partition(lists[1])
    missing = {f"{PHOTOS}/{i}.jpg": groups.get(originals[i]) for i in sorted(originals.keys() - photos.keys())}
    if absent:
        reason = f"{' and '.join(absent)} not in {root}"
        return {}, {str(i): f"{blob.name}: no split is known ({reason})" for i, blob in photos.items()}, missing
    splits, unsplit = {}, {}
    for i, blob in photos.items():
        if i not in originals:
            unsplit[str(i)] = f"{blob.name}: no split is known (photo {i} is not in {MAPPING})"
        elif originals[i] not in groups:
            unsplit[str(i)] = f"{blob.name}: no split is known (its original {originals[i]} is not in {PARTITION})"
        else:
            splits[i] = groups[originals[i]]
    return splits, unsplit, missing


def _annotations(root: Path) -> tuple[dict[int, dict[str, float | bool]], bool]:
    """Annotations by photo number, and whether there are any: attributes as true or false, head pose in degrees."""
    merged: dict[int, dict[str, float | bool]] = defaultdict(dict)
    any_file = False
    readers: tuple[tuple[str, Callable[[str], float | bool]], ...] = ((ATTRIBUTES, _truth), (POSE, float))
    for name, value in readers:
        if (root / name).exists():
            any_file = True
            for number, row in _annotation_rows(root / name, value):
                merged[number] |= row
    return dict(merged), any_file


def _truth(text: str) -> bool:
    return {"1": True, "-1": False, "0": False}[text]


def _annotation_rows(file: Path, value: Callable[[str], float | bool]) -> Iterator[tuple[int, dict[str, float | bool]]]:
    """(photo number, column -> value): a line with the count, one with the columns, then one a photo."""
    columns = None
    for where, fields in _lines(file):
        stem = Path(fields[0]).stem
        if columns is None and len(fields) == 1 and fields[0].isdecimal():
            continue  # how many photos follow
        if columns is None:
            columns = [_POSE_NAMES.get(c, c) for c in fields]
            continue
        try:
            if len(fields) != len(columns) + 1:
                raise ValueError
            yield int(stem), dict(zip(columns, map(value, fields[1:]), strict=True))
        except (ValueError, KeyError) as e:
            raise UserError(
                f"{where}: expected a photo and {len(columns)} values, got '{' '.join(fields)[:80]}'; copy it again"
            ) from e


_POSE_NAMES = {"Yaw": "yaw", "Pitch": "pitch", "Raw": "roll", "Roll": "roll"}
"""The pose file's header misspells the roll."""

"""Photos and label maps that lie in files: a folder, or WebDataset shards.

Both become the same list of :class:`Entry`; nothing is decoded before it is asked for.
"""

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Self, TypeVar

from semfacediff.data.attributes import Value
from semfacediff.data.reading import Blob, decode_labels, decode_photo
from semfacediff.data.sizes import in_frame
from semfacediff.data.splits import Split
from semfacediff.errors import UserError, printable
from semfacediff.labels import LabelSpace
from semfacediff.types import FaceSample
from semfacediff.weight_files import file_state

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif")
MOST_STEM_BYTES = 240
"""Of a photo's name without its suffix: files are named after it, and file systems allow 255 bytes."""


@dataclass(frozen=True)
class Entry:
    """One sample before it is read.

    Attributes:
        id: file stem; made printable where no file can be named after it, which is a defect.
        photo, labels: where the bytes lie; ``labels`` is ``None`` where no label map is wanted.
        shard: the tar it comes from, if any.
        defect: why it cannot be a sample (no partner, an id that occurs twice); its blobs are then not read.
        attributes: what ``attributes.csv`` says of it.
    """

    id: str
    photo: Blob | None
    labels: Blob | None = None
    shard: str | None = None
    defect: str | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)

    @property
    def photo_file(self) -> Blob:
        """``photo`` of an entry without a defect."""
        if self.photo is None:
            raise ValueError(f"'{self.id}' has no photo: {self.defect}")
        return self.photo

    @property
    def blobs(self) -> list[Blob]:
        """Where all of its bytes lie."""
        return [blob for blob in (self.photo, self.labels) if blob is not None]


@dataclass(frozen=True)
class Index:
    """What a place holds.

    Attributes:
        candidates: every id that occurs, sorted, defective ones too: a split must not depend on what is broken.
        broken: archive -> why it could not be read to its end.
    """

    candidates: tuple[Entry, ...]
    broken: dict[str, str]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Candidates without a defect."""
        return tuple(e for e in self.candidates if e.defect is None)

    @property
    def bad(self) -> dict[str, str]:
        """Everything that is wrong: archive or id -> reason."""
        return self.broken | {e.id: e.defect for e in self.candidates if e.defect is not None}


def existing(root: Path, what: str, remedy: str) -> Path:
    if not root.is_dir():
        raise UserError(f"{what}: expected a folder at {root}, found none; {remedy}")
    return root


def unusable_stem(stem: str) -> str | None:
    """Why no file can be named after a photo with this stem; ``None``: it can."""
    try:
        n = len(stem.encode())
    except UnicodeEncodeError:
        return f"'{printable(stem)}': the name is not UTF-8; rename the file"
    if n > MOST_STEM_BYTES:
        shown = printable(f"{stem[:40]}...")
        return f"'{shown}': a name of {n} bytes without its suffix, the limit is {MOST_STEM_BYTES}; rename the file"
    return None


def is_file(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a folder's entry counts: of one of these kinds, and no shadow that macOS leaves (``._x.png``)."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def paired(
    photos: Sequence[tuple[str, Blob, str | None]],
    masks: Sequence[tuple[str, Blob]],
    labels_needed: bool,
    attributes: Mapping[str, Mapping[str, Value]],
) -> Index:
    """Join photos, masks and attributes by id.

    Duplicates, orphans, lonely photos, and names after which no file can be named become defective candidates.
    """
    photos_of, masks_of = defaultdict(list), defaultdict(list)
    for id_, blob, shard in photos:
        photos_of[id_].append((blob, shard))
    for id_, blob in masks:
        masks_of[id_].append(blob)
    candidates = []
    for id_ in sorted(photos_of.keys() | (masks_of.keys() if labels_needed else set())):
        found, mask = photos_of.get(id_, []), masks_of.get(id_, [])
        if defect := unusable_stem(id_):
            id_ = printable(id_)
        elif len(found) > 1 or (labels_needed and len(mask) > 1):
            twice = [b for b, _ in found] if len(found) > 1 else mask
            defect = f"id '{id_}' occurs {len(twice)} times: {', '.join(b.name for b in twice)}"
        elif not found:
            defect = f"{mask[0].name}: a label map without a photo"
        elif labels_needed and not mask:
            defect = f"{found[0][0].name}: a photo without a label map"
        photo, shard = found[0] if found else (None, None)
        labels = mask[0] if labels_needed and mask else None
        candidates.append(Entry(id_, photo, labels, shard, defect, attributes.get(id_, {})))
    return Index(tuple(candidates), {})


E = TypeVar("E", bound=Entry)


class FileFaces(Generic[E]):
    """Map-style data set over files. ``faces[i]`` decodes and checks sample ``i``.

    Args:
        entries: what to read, in order.
        label_space: space of the label maps.
        allow_mask_resize: resize a label map of another aspect ratio than its photo's (see ``sizes``).
    """

    def __init__(self, entries: Iterable[E], label_space: LabelSpace, allow_mask_resize: bool = False):
        self.entries = tuple(entries)
        self.label_space = label_space
        self.allow_mask_resize = allow_mask_resize

    @property
    def ids(self) -> list[str]:
        return [e.id for e in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> FaceSample:
        """Raises :class:`UserError` naming the file and its defect."""
        return self._decode(self.entries[i], *self._bytes(self.entries[i]))

    @property
    def facts(self) -> str:
        """What the digest holds besides ids and contents."""
        return self.label_space.name

    def _examined(self, entry: E) -> tuple[FaceSample, str]:
        """The decoded sample and the digest of its bytes."""
        photo, labels = self._bytes(entry)
        digest = hashlib.sha256(photo).hexdigest() + hashlib.sha256(labels or b"").hexdigest()
        return self._decode(entry, photo, labels), digest

    @staticmethod
    def _bytes(entry: E) -> tuple[bytes, bytes | None]:
        return entry.photo_file.read(), entry.labels.read() if entry.labels else None

    def _decode(self, entry: E, photo_bytes: bytes, label_bytes: bytes | None) -> FaceSample:
        photo = decode_photo(photo_bytes, entry.photo_file.name)
        labels = None
        if label_bytes is not None and entry.labels is not None:
            labels = decode_labels(label_bytes, entry.labels.name, self.label_space)
            labels = in_frame(labels, entry.labels.name, photo.shape[:2], self.allow_mask_resize)
        return FaceSample(entry.id, photo, labels, dict(entry.attributes))

    def state(self) -> str:
        """What changes with the data set's files, without reading them: digest of names, sizes and times."""
        files = [
            (e.id, e.defect, dict(e.attributes), [(str(b.path), b.offset, b.length) for b in e.blobs])
            for e in self.entries
        ]
        paths = {blob.path for e in self.entries for blob in e.blobs}
        times = sorted(map(str, map(file_state, paths)))
        known = json.dumps([self.facts, self.allow_mask_resize, files, times], sort_keys=True, default=str)
        return hashlib.sha256(known.encode()).hexdigest()

    def inspect(self, progress: Callable[[], object], workers: int = 2) -> tuple[str, dict[str, str]]:
        """Read and decode everything once: (digest of all bytes, id -> defect).

        The digest is a SHA-256 over ids, file contents and attributes in order; it does not depend on paths.
        """

        def look(entry: E) -> tuple[str, str | None]:
            try:
                if entry.defect is not None:
                    return "", entry.defect
                return self._examined(entry)[1], None
            except UserError as e:
                return "", str(e)
            finally:
                progress()

        total, bad = hashlib.sha256(self.facts.encode()), {}
        with ThreadPoolExecutor(workers) as pool:
            for entry, (digest, defect) in zip(self.entries, pool.map(look, self.entries), strict=True):
                if defect is None:
                    known = json.dumps(dict(entry.attributes), sort_keys=True) if entry.attributes else ""
                    total.update(f"{entry.id}:{digest}{known};".encode())
                else:
                    bad[entry.id] = defect
        return total.hexdigest(), bad

    def keep(self, entries: Iterable[E]) -> Self:
        """The same data set restricted to ``entries``."""
        kept = copy.copy(self)
        kept.entries = tuple(entries)
        return kept


def select(entries: Iterable[Entry], rule: Split, split: str, n: int | None) -> tuple[Entry, ...]:
    """Entries of ``split`` in sorted order, the first ``n`` of them if given."""
    ordered = sorted(entries, key=lambda e: e.id)
    return tuple([e for i, e in enumerate(ordered) if rule.has(split, e.id, i, e.shard)][:n])

"""CelebAMask-HQ as it is published: photos, one mask a part, splits through CelebA, annotations."""

import hashlib
from collections.abc import Iterable, Mapping

from semfacediff import config
from semfacediff.data.celebamask_layout import OfficialEntry, index_official, paint_order
from semfacediff.data.celebamask_paint import painted
from semfacediff.data.files import FileFaces
from semfacediff.data.reading import decode_photo
from semfacediff.data.selection import Data, checked, limit_of, subset_of
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.types import FaceSample


class OfficialFaces(FileFaces[OfficialEntry]):
    """Map-style data set over the official layout; label maps are painted when asked for.

    Photos (1024 px) and label maps (512 px) keep their own sizes. Labels are in space ``celebamask`` whatever the
    paint order, which only decides who has a pixel that two parts claim.

    Args:
        entries: what to read, in order.
        order: ``official`` or ``segface``.
        labels_needed: paint label maps; without, the part masks are not opened.
        allow_mask_resize: resize part masks that differ in size or aspect ratio (see ``celebamask_paint``).
    """

    def __init__(
        self,
        entries: Iterable[OfficialEntry],
        order: str = "official",
        labels_needed: bool = True,
        allow_mask_resize: bool = False,
    ):
        super().__init__(entries, CELEBAMASK, allow_mask_resize)
        self.order, self.labels_needed = order, labels_needed

    @classmethod
    def opened(cls, settings: config.CelebAMaskHQData, split: str, labels_needed: bool, limit: int | None) -> Data:
        """What the configuration describes, checked file by file."""
        index = index_official(settings.folder, labels_needed)
        unsplit: Mapping[str, str] = {}
        if settings.subset is not None:
            drawn = subset_of(settings.subset, [e.id for e in index.entries])
            chosen = [e for e in index.entries if drawn.has(split, e.id, 0)]
        else:
            unsplit = {} if split == "all" else index.unsplit
            if len(unsplit) == len(index.entries):
                raise UserError(
                    f"data.split={split}: {next(iter(unsplit.values()))}; copy the official lists into data.root, or "
                    f"set data.split=all"
                )
            chosen = [e for e in index.entries if split in ("all", e.split)]
        chosen = chosen[: limit_of(settings.n, limit)]
        faces = cls(chosen, settings.paint_order, labels_needed, settings.allow_mask_resize)
        return checked(faces, unsplit, settings, split)

    @property
    def facts(self) -> str:
        return f"{self.label_space.name}:paint_order={self.order}" if self.labels_needed else self.label_space.name

    def __getitem__(self, i: int) -> FaceSample:
        return self._examined(self.entries[i])[0]

    def _examined(self, entry: OfficialEntry) -> tuple[FaceSample, str]:
        photo_bytes = entry.photo.read()
        photo = decode_photo(photo_bytes, entry.photo.name)
        digest = hashlib.sha256(photo_bytes)
        labels = None
        if self.labels_needed:
            parts = {part: (blob.name, blob.read()) for part, blob in sorted(entry.parts.items())}
            for part, (_, data) in parts.items():
                digest.update(f";{part}:{len(data)}:".encode() + data)
            seen = (entry.photo.name, photo.shape[:2])
            labels, _ = painted(parts, paint_order(self.order), seen, self.allow_mask_resize)
        return FaceSample(entry.id, photo, labels, dict(entry.attributes)), digest.hexdigest()


DATA = OfficialFaces

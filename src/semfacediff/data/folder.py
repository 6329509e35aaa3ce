"""``data=folder``: photos in one folder, label maps in another."""

from pathlib import Path

from semfacediff import config
from semfacediff.data.attributes import read_attributes
from semfacediff.data.files import PHOTO_SUFFIXES, Entry, FileFaces, Index, existing, is_file, paired
from semfacediff.data.reading import Blob
from semfacediff.data.selection import Data, of_index
from semfacediff.errors import UserError


class FolderFaces(FileFaces[Entry]):
    """Map-style data set over a folder."""

    @classmethod
    def opened(cls, settings: config.FolderData, split: str, labels_needed: bool, limit: int | None) -> Data:
        """What the configuration describes, checked file by file."""
        index = index_folder(settings.folder, settings.images, settings.masks, labels_needed)
        return of_index(index, settings, split, limit)


def index_folder(root: Path, images: str, masks: str, labels_needed: bool) -> Index:
    """Entries of ``root/images`` (photos) and ``root/masks`` (PNG label maps), joined by file stem; attributes as in
    ``root/attributes.csv``, if it is there.

    Raises:
        UserError: a folder is missing, or there is no photo at all.
    """
    existing(root, "data.root", "set data.root=DIR or SEMFACEDIFF_DATA")
    image_dir = existing(
        root / images, "data.images", f"'{images}' is looked for under data.root; set data.images=NAME"
    )
    photos = [
        (p.stem, Blob(p, str(p.relative_to(root))), None)
        for p in sorted(image_dir.iterdir())
        if is_file(p, PHOTO_SUFFIXES)
    ]
    if not photos:
        raise UserError(f"data.images: no photo ({', '.join(PHOTO_SUFFIXES)}) in {image_dir}")
    label_maps = []
    if labels_needed:
        mask_dir = existing(root / masks, "data.masks", "this run needs label maps; set data.masks=NAME")
        label_maps = [
            (p.stem, Blob(p, str(p.relative_to(root)))) for p in sorted(mask_dir.iterdir()) if is_file(p, (".png",))
        ]
    return paired(photos, label_maps, labels_needed, read_attributes(root))


DATA = FolderFaces

"""``data=shards``: WebDataset archives."""

import os
import stat
import tarfile
from collections import defaultdict
from pathlib import Path

from semfacediff import config
from semfacediff.data.attributes import read_attributes
from semfacediff.data.files import PHOTO_SUFFIXES, Entry, FileFaces, Index, existing, paired
from semfacediff.data.reading import Blob, kind_of
from semfacediff.data.selection import Data, of_index
from semfacediff.errors import UserError, printable


class ShardFaces(FileFaces[Entry]):
    """Map-style data set over tars."""

    @classmethod
    def opened(cls, settings: config.ShardsData, split: str, labels_needed: bool, limit: int | None) -> Data:
        """What the configuration describes, checked file by file."""
        index = index_shards(settings.folder, settings.shards, labels_needed)
        return of_index(index, settings, split, limit)


_TAR_KINDS = {
    tarfile.SYMTYPE: "a link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a FIFO",
}


def _tar_members(shard: Path) -> tuple[list[tuple[Path, Blob]], list[Entry], str | None]:
    """What a tar holds as far as it can be read.

    Returns:
        Files; defective candidates for links, devices and the like with a photo's suffix; what is wrong with the tar
        (``None``: nothing).
    """
    members, odd = [], []
    try:
        if not stat.S_ISREG(mode := os.stat(shard).st_mode):
            raise tarfile.ReadError(f"it is {kind_of(mode)}")
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                name, path = printable(f"{shard.name}:{member.name}"), Path(member.name)
                if member.isreg() and not member.issparse():
                    members.append((path, Blob(shard, name, member.offset_data, member.size)))
                elif not member.isdir() and path.suffix.lower() in PHOTO_SUFFIXES:
                    kind = "a sparse file" if member.issparse() else _TAR_KINDS.get(member.type, "a device")
                    defect = f"{name}: expected a file, got {kind}; put the file itself into the tar"
                    odd.append(Entry(printable(path.stem), None, shard=shard.stem, defect=defect))
            end = tar.offset
        with open(shard, "rb") as f:
            f.seek(end)
            # tarfile takes a damaged header, or a cut between two members, for the end; a whole tar ends in zeros.
            if f.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"it breaks off after {len(members)} files")
    except (tarfile.TarError, OSError, MemoryError, OverflowError, ValueError) as e:
        why = str(e) or "a header claims more than the memory holds"
        return members, odd, printable(f"{shard.name}: not a whole tar ({why}); copy the shard again")
    return members, odd, None


def index_shards(root: Path, pattern: str, labels_needed: bool) -> Index:
    """Entries of WebDataset tars: ``<id>.jpg|png|webp`` beside ``<id>.png`` label map, read in place.

    Of one id a lone ``.png`` is the photo if no label maps are needed; beside another photo it is the label map. A
    damaged shard is ``bad`` under its file name; what can be read of it is indexed all the same. Attributes as in
    ``root/attributes.csv``, if it is there.

    Raises:
        UserError: there is no shard.
    """
    existing(root, "data.root", "set data.root=DIR or SEMFACEDIFF_DATA")
    shards = sorted(root.glob(pattern))
    if not shards:
        raise UserError(f"data.shards: no file matches '{pattern}' in {root}")
    photos, masks, odd, bad = [], [], [], {}
    for shard in shards:
        members = defaultdict(list)
        files, other, defect = _tar_members(shard)
        odd += other
        if defect:
            bad[printable(shard.name)] = defect
        for path, blob in files:
            if path.suffix.lower() in PHOTO_SUFFIXES:
                members[path.stem].append((path.suffix.lower(), blob))
        for id_, found in members.items():
            pngs = [b for suffix, b in found if suffix == ".png"]
            others = [b for suffix, b in found if suffix != ".png"]
            # Two PNGs of one id can only be told apart by an explicit photo beside them.
            if not others and not labels_needed:
                others, pngs = pngs, []
            photos += [(id_, b, shard.stem) for b in others]
            masks += [(id_, b) for b in pngs]
    candidates = (*paired(photos, masks, labels_needed, read_attributes(root)).candidates, *odd)
    # The odd ones replace their partners: a label map whose photo is a link must not pass for a photo.
    by_id = {e.id: e for e in candidates}
    return Index(tuple(by_id[id_] for id_ in sorted(by_id)), bad)


DATA = ShardFaces

"""What of a data set is used, read through once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from semfacediff import config
from semfacediff.data.files import E, Entry, FileFaces, Index, select
from semfacediff.data.splits import DrawnSubset, Split, SplitRule, read_split_list
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, space
from semfacediff.sweep_cache import SweepCache
from semfacediff.types import Faces

MAX_BAD_SHOWN = 50

_inspected: SweepCache[tuple[str, dict[str, str]]] = SweepCache()


@dataclass(frozen=True)
class Data:
    """A data set that has been read through once.

    Attributes:
        faces: map-style data set of :class:`semfacediff.types.FaceSample`, ids sorted.
        digest: SHA-256 over ids and contents.
        skipped: id (or archive) -> reason, where ``data.on_error=skip`` left something out.
        n_expected: samples that were selected, the skipped ones included.
    """

    faces: Faces
    digest: str
    skipped: dict[str, str]
    n_expected: int

    @property
    def label_space(self) -> LabelSpace:
        return self.faces.label_space


def limit_of(a: int | None, b: int | None) -> int | None:
    """The smaller one; ``None``: no limit."""
    return min((n for n in (a, b) if n is not None), default=None)


def split_of(settings: config.RuledData, ids: Sequence[str]) -> Split:
    """Of ``ids``, every candidate in the data set."""
    if settings.subset is not None:
        return subset_of(settings.subset, ids)
    rule = settings.split_rule
    listed = read_split_list(settings.folder) if rule.by == "file" and isinstance(settings, config.FileData) else None
    return SplitRule(rule.by, rule.modulo, tuple(rule.val), tuple(rule.test), listed)


def subset_of(settings: config.SubsetConfig, ids: Sequence[str]) -> DrawnSubset:
    """Of ``ids``, those that are drawn for each part."""
    sizes = settings.model_dump(exclude={"seed"})
    return DrawnSubset.draw(ids, sizes, settings.seed)


def checked(faces: FileFaces[E], broken: Mapping[str, str], settings: config.PlacedData, split: str) -> Data:
    """Everything read once; ``broken``: what is known to be unusable before (name -> reason)."""
    entries = faces.entries

    def inspect() -> tuple[str, dict[str, str]]:
        with tqdm(
            total=len(faces), desc=f"check {split}", unit="photo", leave=False, mininterval=0.5, disable=None
        ) as bar:
            return faces.inspect(bar.update)

    digest, bad = _inspected.get((split, faces.state()), inspect)
    bad = {**broken, **bad}
    if bad and settings.on_error == "error":
        shown = list(bad.values())[:MAX_BAD_SHOWN]
        more = [f"... and {len(bad) - MAX_BAD_SHOWN} more"] if len(bad) > MAX_BAD_SHOWN else []
        raise UserError(
            f"{len(bad)} of the samples in {settings.root} cannot be used; fix them, or set data.on_error=skip to "
            f"leave them out (they are recorded):",
            *shown,
            *more,
        )
    faces = faces.keep(e for e in entries if e.id not in bad)
    if bad and not len(faces):
        first = next(iter(bad.values()))
        raise UserError(f"data: no usable sample in split '{split}'; the first of {len(bad)} reasons: {first}")
    not_empty(faces, settings, split)
    return Data(faces, digest, bad, len(entries))


def not_empty(faces: Faces, settings: config.DataConfig, split: str) -> None:
    """A :class:`UserError` if ``faces`` are none."""
    if not len(faces):
        rule = settings.split_rule if isinstance(settings, config.RuledData) else None
        ways = f"data.split_rule (by {rule.by}, modulo {rule.modulo})" if rule else "the official partition"
        raise UserError(
            f"data: no usable sample in split '{split}'; {ways} selects none; set data.split=all or another rule"
        )


def of_index(index: Index, settings: config.FolderData | config.ShardsData, split: str, limit: int | None) -> Data:
    """The part ``split`` of an index, by the rule of the settings."""
    rule = split_of(settings, [e.id for e in index.candidates])
    entries = select(index.candidates, rule, split, limit_of(settings.n, limit))
    faces: FileFaces[Entry] = FileFaces(entries, space(settings.label_space), settings.allow_mask_resize)
    return checked(faces, index.broken, settings, split)


def of_parts(
    faces: FileFaces[E],
    parts: Mapping[str, str],
    settings: config.LapaData | config.HelenData,
    split: str,
    limit: int | None,
) -> Data:
    """The part ``split`` of photos that are published in parts; ``parts``: id -> its part."""
    if settings.subset is not None:
        drawn = subset_of(settings.subset, faces.ids)
        chosen = [e for e in faces.entries if drawn.has(split, e.id, 0)]
    else:
        chosen = [e for e in faces.entries if split in ("all", parts[e.id])]
    return checked(faces.keep(chosen[: limit_of(settings.n, limit)]), {}, settings, split)

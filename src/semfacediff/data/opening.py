"""A data set as the configuration describes it, read through once."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from semfacediff import config, plugins
from semfacediff.data.celebamask_hq import OfficialFaces
from semfacediff.data.celebamask_layout import OfficialEntry, index_official
from semfacediff.data.files import E, FileFaces, index_folder, index_shards, select
from semfacediff.data.helen import HelenFaces, held_out, index_helen
from semfacediff.data.landmarks import LandmarkedFaces
from semfacediff.data.lapa import LapaFaces, index_lapa
from semfacediff.data.reading import MIN_SIDE_PX
from semfacediff.data.relabelled import Relabelled
from semfacediff.data.sizes import same_aspect
from semfacediff.data.splits import DrawnSubset, Split, SplitRule, read_split_list
from semfacediff.data.subset import Subset
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, LabelSpace, space
from semfacediff.sweep_cache import SweepCache
from semfacediff.types import Faces, FaceSample

MAX_BAD_SHOWN = 50
TOY_VERSION = 1
"""Raised whenever the drawings change, so that records of old drawings are told apart."""

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


def open_data(
    settings: config.AnyData, split: str | None = None, labels_needed: bool = True, limit: int | None = None
) -> Data:
    """The :class:`Data` that the configuration describes, checked file by file.

    Args:
        split: instead of ``data.split``.
        limit: keep the first samples only.

    Raises:
        UserError: nothing selected, fewer samples than ``data.n``, or defective files (every one is named).
    """
    made = _data(settings, split or settings.split, labels_needed, limit)
    # Training takes the first n of each of its parts; an evaluation of n samples must have n.
    if split is None and limit is None and settings.n is not None and made.n_expected < settings.n:
        raise UserError(
            f"data.n={settings.n}, but split '{settings.split}' has {made.n_expected} samples; lower data.n or unset it"
        )
    return made


def in_space(made: Data, name: str | None) -> Data:
    """``made`` with labels in the space called ``name``, converted by class name; ``None``: as they are.

    Raises:
        UserError: that space lacks a class of the data.
    """
    return made if name is None else dataclasses.replace(made, faces=Relabelled(made.faces, space(name)))


def _data(settings: config.AnyData, split: str, labels_needed: bool, limit: int | None) -> Data:
    if isinstance(settings, config.OtherData):
        return _plugged(settings, split, labels_needed, limit)
    if settings.name == "celebamask_hq":
        return _official(settings, split, labels_needed, limit)
    if settings.name == "lapa":
        faces = LapaFaces(index_lapa(settings.folder, labels_needed), settings.allow_mask_resize)
        return _landmarked(settings, split, faces, {e.id: e.part for e in faces.entries}, limit)
    if settings.name == "helen":
        return _helen(settings, split, labels_needed, limit)
    if settings.name == "toy":
        return _toy(settings, split, limit)
    return _files(settings, split, labels_needed, limit)


def _first(a: int | None, b: int | None) -> int | None:
    return min((n for n in (a, b) if n is not None), default=None)


def _split(settings: config.RuledData, ids: Sequence[str]) -> Split:
    """Of ``ids``, every candidate in the data set."""
    if settings.subset is not None:
        return _subset(settings.subset, ids)
    rule = settings.split_rule
    listed = read_split_list(settings.folder) if rule.by == "file" and isinstance(settings, config.FileData) else None
    return SplitRule(rule.by, rule.modulo, tuple(rule.val), tuple(rule.test), listed)


def _subset(settings: config.SubsetConfig, ids: Sequence[str]) -> DrawnSubset:
    sizes = settings.model_dump(exclude={"seed"})
    return DrawnSubset.draw(ids, sizes, settings.seed)


def _toy(settings: config.ToyData, split: str, limit: int | None) -> Data:
    every = ToyFaces(settings.count, settings.size, settings.seed)
    rule = _split(settings, every.ids)
    chosen = [i for i, id_ in enumerate(every.ids) if rule.has(split, id_, i)]
    faces = Subset(every, chosen[: _first(settings.n, limit)])
    _not_empty(faces, settings, split)
    facts = f"toy:{TOY_VERSION}:{settings.size}:{settings.seed}:{','.join(faces.ids)}"
    return Data(faces, hashlib.sha256(facts.encode()).hexdigest(), {}, len(faces))


def _plugged(settings: config.OtherData, split: str, labels_needed: bool, limit: int | None) -> Data:
    """Of a class that is no part of this package; every sample is read and checked once."""
    every: Faces = plugins.made("data", settings.name, settings.options)
    order = sorted(range(len(every)), key=lambda i: every.ids[i])
    rule = _split(settings, [every.ids[i] for i in order])
    chosen = [i for place, i in enumerate(order) if rule.has(split, every.ids[i], place)]
    faces = Subset(every, chosen[: _first(settings.n, limit)])
    _not_empty(faces, settings, split)
    digest = hashlib.sha256(faces.label_space.name.encode())
    for i, id_ in enumerate(faces.ids):
        try:
            sample = checked_sample(faces[i], id_, faces.label_space, labels_needed)
        except Exception as e:  # whatever a foreign class raises
            raise UserError(f"data '{settings.name}': sample '{id_}' cannot be used ({e}); fix its class") from e
        known = json.dumps([id_, sample.photo.shape, dict(sample.attributes)], sort_keys=True, default=str)
        for part in (known.encode(), sample.photo.tobytes(), b"" if sample.labels is None else sample.labels.tobytes()):
            digest.update(hashlib.sha256(part).digest())
    return Data(faces, digest.hexdigest(), {}, len(faces))


def checked_sample(sample: FaceSample, id_: str, of: LabelSpace, labels_needed: bool) -> FaceSample:
    """``sample``, if it is what a data set may give for ``id_``; a :class:`ValueError` otherwise."""
    photo, labels = sample.photo, sample.labels
    if sample.id != id_:
        raise ValueError(f"its id is '{sample.id}'")
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or min(photo.shape[:2]) < MIN_SIDE_PX:
        raise ValueError(f"expected uint8 [H, W, 3] of at least {MIN_SIDE_PX} px, got {photo.dtype} {photo.shape}")
    if labels is None and labels_needed:
        raise ValueError("it has no label map, and this run needs them")
    if labels is not None:
        if labels.dtype != np.uint8 or labels.ndim != 2 or not same_aspect(photo.shape[:2], labels.shape):
            raise ValueError(f"labels: expected uint8 [H, W] like the photo, got {labels.dtype} {labels.shape}")
        if int(labels.max()) >= of.n:
            raise ValueError(f"labels: {int(labels.max())} lies outside space '{of.name}' (0..{of.n - 1})")
    return sample


def _files(settings: config.FolderData | config.ShardsData, split: str, labels_needed: bool, limit: int | None) -> Data:
    if settings.name == "folder":
        index = index_folder(settings.folder, settings.images, settings.masks, labels_needed)
    else:
        index = index_shards(settings.folder, settings.shards, labels_needed)
    rule = _split(settings, [e.id for e in index.candidates])
    entries = select(index.candidates, rule, split, _first(settings.n, limit))
    faces = FileFaces(entries, space(settings.label_space), settings.allow_mask_resize)
    return _checked(faces, index.broken, settings, split)


def _official(settings: config.CelebAMaskHQData, split: str, labels_needed: bool, limit: int | None) -> Data:
    index = index_official(settings.folder, labels_needed)
    if settings.subset is not None:
        drawn = _subset(settings.subset, [e.id for e in index.entries])
        chosen = [e for e in index.entries if drawn.has(split, e.id, 0)][: _first(settings.n, limit)]
        return _checked(_official_faces(settings, chosen, labels_needed), {}, settings, split)
    unsplit = {} if split == "all" else index.unsplit
    if len(unsplit) == len(index.entries):
        reason = next(iter(unsplit.values()))
        raise UserError(f"data.split={split}: {reason}; copy the official lists into data.root, or set data.split=all")
    chosen = [e for e in index.entries if split in ("all", e.split)][: _first(settings.n, limit)]
    return _checked(_official_faces(settings, chosen, labels_needed), unsplit, settings, split)


def _helen(settings: config.HelenData, split: str, labels_needed: bool, limit: int | None) -> Data:
    entries = index_helen(settings.folder, labels_needed)
    parts = {e.id: e.part for e in entries}
    if settings.val == "held_out":
        parts |= dict.fromkeys(held_out(entries), "val")
    elif split == "val":
        split = "test"
    return _landmarked(settings, split, HelenFaces(entries, settings.crop, settings.allow_mask_resize), parts, limit)


def _landmarked(
    settings: config.LapaData | config.HelenData,
    split: str,
    faces: LandmarkedFaces,
    parts: Mapping[str, str],
    limit: int | None,
) -> Data:
    """``parts``: id -> part that it belongs to."""
    if settings.subset is not None:
        drawn = _subset(settings.subset, faces.ids)
        chosen = [e for e in faces.entries if drawn.has(split, e.id, 0)]
    else:
        chosen = [e for e in faces.entries if split in ("all", parts[e.id])]
    return _checked(faces.keep(chosen[: _first(settings.n, limit)]), {}, settings, split)


def _official_faces(
    settings: config.CelebAMaskHQData, chosen: list[OfficialEntry], labels_needed: bool
) -> OfficialFaces:
    return OfficialFaces(chosen, settings.paint_order, labels_needed, settings.allow_mask_resize)


def _checked(faces: FileFaces[E], broken: Mapping[str, str], settings: config.PlacedData, split: str) -> Data:
    """Everything read once; ``broken``: what is known to be unusable before (name -> reason)."""
    entries = faces.entries

    def inspect() -> tuple[str, dict[str, str]]:
        with tqdm(total=len(faces), desc=f"check {split}", unit="photo", leave=False, mininterval=0.5) as bar:
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
    _not_empty(faces, settings, split)
    return Data(faces, digest, bad, len(entries))


def _not_empty(faces: Faces, settings: config.DataConfig, split: str) -> None:
    if not len(faces):
        rule = settings.split_rule if isinstance(settings, config.RuledData) else None
        ways = f"data.split_rule (by {rule.by}, modulo {rule.modulo})" if rule else "the official partition"
        raise UserError(
            f"data: no usable sample in split '{split}'; {ways} selects none; set data.split=all or another rule"
        )


def label_space_of(settings: config.AnyData) -> LabelSpace:
    """The space of a data set's labels, known before any of it is read."""
    if isinstance(settings, config.OtherData):
        return plugins.made("data", settings.name, settings.options).label_space
    return space(getattr(settings, "label_space", CELEBAMASK.name))

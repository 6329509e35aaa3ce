"""A data set as the configuration describes it, read through once."""

import dataclasses
import hashlib
import json
import os
import shlex
import sys

import numpy as np

from semfacediff import config, plugins
from semfacediff.data.reading import MIN_SIDE_PX
from semfacediff.data.relabelled import Relabelled
from semfacediff.data.selection import Data, limit_of, not_empty, split_of
from semfacediff.data.sizes import same_aspect
from semfacediff.data.subset import Subset
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, LabelSpace, space
from semfacediff.types import Faces, FaceSample


def open_data(
    settings: config.AnyData, split: str | None = None, labels_needed: bool = True, limit: int | None = None
) -> Data:
    """The :class:`Data` that the configuration describes, checked file by file.

    Args:
        split: instead of ``data.split``.
        limit: keep the first samples only.

    Raises:
        UserError: nothing selected, fewer samples than a ``data.n`` that is no preset's, or defective files (all are
            named).
    """
    made = _data(settings, split or settings.split, labels_needed, limit)
    # Training takes the first n of each of its parts; an evaluation of n samples must have n.
    if split is None and limit is None and settings.n is not None and made.n_expected < settings.n:
        found = f"data.n={settings.n}, but split '{settings.split}' has {made.n_expected} samples"
        if not _of_a_preset():
            raise UserError(f"{found}; lower data.n or unset it")
        print(f"{found}: all of them are used", file=sys.stderr)
    return made


def _of_a_preset() -> bool:
    """Whether ``data.n`` of the command that runs comes from a preset, which is made for other data too."""
    words = os.environ.get("SEMFACEDIFF_OVERRIDES")
    return words is not None and not any(word.startswith("data.n=") for word in shlex.split(words))


def in_space(made: Data, name: str | None) -> Data:
    """``made`` with labels in the space called ``name``, converted by class name; ``None``: as they are.

    Raises:
        UserError: that space lacks a class of the data.
    """
    return made if name is None else dataclasses.replace(made, faces=Relabelled(made.faces, space(name)))


def _data(settings: config.AnyData, split: str, labels_needed: bool, limit: int | None) -> Data:
    if isinstance(settings, config.OtherData):
        return _plugged(settings, split, labels_needed, limit)
    return plugins.find("data", settings.name).opened(settings, split, labels_needed, limit)


def _plugged(settings: config.OtherData, split: str, labels_needed: bool, limit: int | None) -> Data:
    """Of a class that is no part of this package; every sample is read and checked once."""
    every: Faces = plugins.made("data", settings.name, settings.options)
    order = sorted(range(len(every)), key=lambda i: every.ids[i])
    rule = split_of(settings, [every.ids[i] for i in order])
    chosen = [i for place, i in enumerate(order) if rule.has(split, every.ids[i], place)]
    faces = Subset(every, chosen[: limit_of(settings.n, limit)])
    not_empty(faces, settings, split)
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


def label_space_of(settings: config.AnyData) -> LabelSpace:
    """The space of a data set's labels, known before any of it is read."""
    if isinstance(settings, config.OtherData):
        return plugins.made("data", settings.name, settings.options).label_space
    return space(getattr(settings, "label_space", CELEBAMASK.name))

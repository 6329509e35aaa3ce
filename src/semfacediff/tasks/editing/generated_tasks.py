"""``prompts=tasks_v1``: a task set made from photos and their labels by a seed.

What a photo is asked for depends on the photo, its labels, its id and the seed alone: not on other photos, their order,
shards or batches, nor on the parser of the run. The words below are part of the name ``tasks_v1``: other words need
another name.
"""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch

from semfacediff.colours.grammar import named_colour
from semfacediff.config.prompts import ADD, KEEP, RECOLOUR, REMOVE, RESTYLE
from semfacediff.labels import LabelSpace
from semfacediff.metrics.ciede2000 import ciede2000
from semfacediff.metrics.cielab import cielab
from semfacediff.regions import ADDABLE, attribute_region, task_region
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.seeding import derive_seed
from semfacediff.tasks.editing.task_set import EditTask, TaskSet
from semfacediff.types import FaceSample

NAME = "tasks_v1"
LEAST_DE = 25.0
"""CIEDE2000 between the region's mean colour and the target of a recolouring, at least."""
_GRID_PX = 256
"""Of the long side: the mean colour is that of pixels on a grid of this size, which takes a tenth of the time."""
_PLAIN = ("black", "white", "grey", "red", "orange", "yellow", "green", "teal", "blue", "navy", "purple", "pink")
COLOURS = {
    "hair": ("black", "white", "dark brown", "red", "orange", "green", "teal", "blue", "purple", "pink"),
    "lips": ("black", "dark red", "red", "orange", "brown", "blue", "purple", "pink"),
    "skin": ("dark brown", "brown", "tan", "beige", "white", "green", "blue"),
    "eyes": ("black", "brown", "grey", "green", "blue", "purple"),
    "eyebrows": ("black", "white", "dark brown", "red", "orange", "blue", "purple"),
    "glasses": _PLAIN,
    "earrings": _PLAIN,
    "necklace": _PLAIN,
    "hat": _PLAIN,
    "clothing": _PLAIN,
}
STYLES = {
    "hair": ("curly", "straight", "wavy", "braided"),
    "lips": ("matte", "glossy", "full", "thin"),
    "skin": ("freckled", "smooth", "wrinkled"),
    "eyes": ("wide open", "narrow"),
    "eyebrows": ("thick", "thin", "arched", "straight"),
    "glasses": ("round", "square", "rimless"),
    "earrings": ("hoop", "stud", "drop"),
    "necklace": ("chain", "beaded", "choker"),
    "hat": ("knitted", "wide-brimmed", "pointed"),
    "clothing": ("knitted", "striped", "checked"),
    "nose": ("small", "wide", "straight", "upturned"),
}
ADDED = {"glasses": "a pair of glasses", "earrings": "a pair of earrings", "necklace": "a necklace", "hat": "a hat"}
REMOVED = {
    "glasses": "eyes without glasses",
    "earrings": "ears without earrings",
    "necklace": "a neck without a necklace",
    "hat": "a head without a hat",
}


def generated(samples: Iterable[FaceSample], space: LabelSpace, attributes: Sequence[str], seed: int) -> TaskSet:
    """The task set of photos with label maps in ``space``; the samples' order is that of the tasks."""
    return TaskSet(NAME, [task for sample in samples for task in tasks_of(sample, space, attributes, seed)])


def tasks_of(sample: FaceSample, space: LabelSpace, attributes: Sequence[str], seed: int) -> list[EditTask]:
    """The tasks of one photo: one an attribute, drawn evenly from the kinds that apply; none where none does."""
    labels = torch.from_numpy(sample.label_map.astype(np.int64))
    grid = tuple(max(1, round(n * min(1, _GRID_PX / max(labels.shape)))) for n in labels.shape)
    small, lab = torch.from_numpy(_nearest(labels.numpy(), grid)), cielab(_nearest(sample.photo, grid))
    tasks = []
    for attribute in attributes:
        region = attribute_region(labels, attribute, space)
        if region.mean() >= MIN_COVERAGE:
            colour = lab[attribute_region(small, attribute, space)]
            kinds = _of_present(attribute, colour)
        elif not region.any() and attribute in ADDABLE:
            fits = task_region(labels, attribute, space, ADD).mean() >= MIN_COVERAGE
            kinds = [(ADD, [(ADDED[attribute], "")])] if fits else []
        else:
            kinds = []
        if kinds:
            draw = np.random.default_rng(derive_seed(seed, NAME, sample.id, attribute))
            kind, choices = kinds[draw.integers(len(kinds))]
            tasks.append(EditTask(sample.id, attribute, kind, *choices[draw.integers(len(choices))]))
    return tasks


_Kind = tuple[str, list[tuple[str, str]]]
"""A kind that applies, and its choices: (prompt, target)."""


def _of_present(attribute: str, colour: np.ndarray) -> list[_Kind]:
    """What may be asked of a region whose pixels have the CIELAB colours ``[N, 3]``."""
    kinds: list[_Kind] = [(KEEP, [(f"the same {attribute}, unchanged", "")])]
    kinds.append((RESTYLE, [(f"{style} {attribute}", style) for style in STYLES[attribute]]))
    if attribute in REMOVED:
        kinds.append((REMOVE, [(REMOVED[attribute], "")]))
    far = _far(attribute, colour) if attribute in COLOURS and len(colour) else []
    if far:
        kinds.append((RECOLOUR, [(f"{name} {attribute}", name) for name in far]))
    return kinds


def _far(attribute: str, colour: np.ndarray) -> list[str]:
    """The colours that are far enough from the mean of CIELAB colours ``[N, 3]``."""
    names = COLOURS[attribute]
    mean = colour.mean(0, dtype=np.float64).astype(np.float32)
    differences = ciede2000(np.tile(mean, (len(names), 1)), _targets(attribute))
    return [name for name, de in zip(names, differences, strict=True) if de >= LEAST_DE]


@cache
def _targets(attribute: str) -> np.ndarray:
    """float32 ``[N, 3]``: CIELAB of the attribute's :data:`COLOURS`."""
    rgb = [named_colour(name, attribute) for name in COLOURS[attribute]]
    return cielab(np.array(rgb, np.uint8).reshape(-1, 1, 3))[:, 0]


def _nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``[H, W, ...]`` at ``shape``: the pixel under each centre."""
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(shape, array.shape, strict=False))
    return array[np.ix_(rows, columns)]

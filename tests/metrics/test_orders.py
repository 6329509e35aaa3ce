"""Every metric puts the controls in the order that it declares, on drawn faces under protocol strict."""

import functools

import numpy as np
import pytest
import torch

from semfacediff import config
from semfacediff.controls import contradicted, relations
from semfacediff.editing.base import EditRequest
from semfacediff.editing.control import Control
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.clip import CLIPEffect
from semfacediff.metrics.opening import declared_orders, open_metrics
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.set_scores import SET_COLUMNS
from semfacediff.parsing.checkpoint import load_parser
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.predict import ModelParser
from semfacediff.regions.masks import RegionRule, attribute_region, region_masks
from semfacediff.seeding import derive_seed
from semfacediff.types import to_tensor, to_uint8

CPU = torch.device("cpu")
TEXTS = {"leakage"}
"""Columns that hold no number."""
TRAINED = {"clip", *CLIPEffect.columns, *SET_COLUMNS}
"""Columns whose order is a matter of trained weights; here they are declared, not measured."""
FACES, SIZE, PROMPT = (0, 5, 7), 128, "purple hair"
"""Two of them lose a part of the face to an edit outside the region, which few faces do."""


@pytest.fixture(scope="module")
def metrics(request):
    """Every metric of one edit of ``metrics=full`` that needs no trained weights; LPIPS with a random trunk."""
    settings = config.typed(request.getfixturevalue("compose")("evaluate"), config.EditingEvaluation)
    columns = [c for c in settings.metrics.columns if c not in {*TRAINED, "lpips"}]
    chosen = settings.metrics.model_copy(update={"columns": columns})
    light = open_metrics(settings.model_copy(update={"metrics": chosen}), CPU).each
    return [*light, LPIPS("strict", None, "random", CPU)]


@pytest.fixture(scope="module")
def pair_of(toy_samples):
    """``pair_of(i, kind, parsed)``: toy face ``i`` under a control, before any composite, with parses or without."""
    parser = ModelParser(*load_parser(default_parser()), CPU)
    samples = toy_samples(max(FACES) + 1, SIZE)

    @functools.cache
    def edited(i: int, kind: str) -> torch.Tensor:
        sample = samples[i]
        masks = region_masks(
            torch.from_numpy(sample.labels.astype(np.int64)), "hair", CELEBAMASK, RegionRule(dilate_px=3)
        )
        seed = derive_seed(0, sample.id)
        return Control(kind).edit([EditRequest(sample.id, "hair", to_tensor(sample.photo), masks, PROMPT, None, seed)])[
            0
        ]

    @functools.cache
    def parsed_edit(i: int, kind: str) -> torch.Tensor:
        return parser.before(samples[i], to_tensor(to_uint8(edited(i, kind))))

    def pair(i: int, kind: str, parsed: bool) -> EditPair:
        labels = torch.from_numpy(samples[i].labels.astype(np.int64))
        blend = region_masks(labels, "hair", CELEBAMASK, RegionRule(dilate_px=3)).blend[0]
        before, after = (parsed_edit(i, k) if parsed else None for k in ("nothing", kind))
        region = [None if x is None else attribute_region(x, "hair", CELEBAMASK) for x in (before, after)]
        return EditPair(
            samples[i].photo,
            to_uint8(edited(i, kind)),
            np.rint(blend.numpy() * 255).astype(np.uint8),
            attribute_region(labels, "hair", CELEBAMASK) if before is None else region[0],
            region[1],
            prompt=PROMPT,
            attribute="hair",
            labels_before=None if before is None else before.numpy(),
            labels_after=None if after is None else after.numpy(),
        )

    return pair


def kinds_of(chains) -> set[str]:
    return {name for chain in chains for a, _, b in relations(chain) for name in (a, b)}


def mean_score(metric, column: str, kind: str, pair_of) -> float:
    """Mean over the faces; the parser is asked only where a score is missing without it."""
    values = []
    for i in FACES:
        value = metric.score(pair_of(i, kind, False))[column]
        values.append(metric.score(pair_of(i, kind, True))[column] if value is None else value)
    assert all(v is not None for v in values), f"{column} is missing under {kind}"
    return float(np.mean(values))


def test_every_column_of_numbers_declares_an_order(metrics):
    for metric in metrics:
        lacking = set(metric.columns) - TEXTS - set(metric.orders)
        assert not lacking, f"{type(metric).__name__}.orders says nothing of {', '.join(lacking)}"
        assert set(metric.orders) <= set(metric.columns)
    trained = declared_orders(["clip", *SET_COLUMNS])
    assert set(trained) == TRAINED
    assert all(kinds_of(chains) for chains in trained.values())


def test_every_metric_orders_the_controls_as_it_declares(metrics, pair_of):
    found, checked = [], 0
    for metric in metrics:
        for column, chains in metric.orders.items():
            means = {kind: mean_score(metric, column, kind, pair_of) for kind in kinds_of(chains)}
            wrong, n = contradicted(chains, means)
            found, checked = found + [f"{column}: {said}" for said in wrong], checked + n
            assert n == sum(len(list(relations(chain))) for chain in chains)
    assert not found
    assert checked > 30


def test_a_metric_that_sees_nothing_would_be_found_out(pair_of):
    class Blind:
        def score(self, pair):
            return {"blind": 1.0}

    means = {kind: mean_score(Blind(), "blind", kind, pair_of) for kind in ("nothing", "photo_noise")}
    assert contradicted(["photo_noise < nothing"], means) == (["photo_noise < nothing (1 and 1)"], 1)

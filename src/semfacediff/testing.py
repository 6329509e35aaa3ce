"""The contracts of editors, metrics, parsers and data sets as functions, for the tests of your own::

    from semfacediff.testing import check_editor

    def test_my_editor():
        check_editor(MyEditor())

Each raises an :class:`AssertionError` that says what was broken. They draw faces themselves and need no files.
"""

import dataclasses
import functools
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from semfacediff.controls import SYSTEM, contradicted, relations
from semfacediff.data.opening import checked_sample
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.apply import checked_edit
from semfacediff.editing.base import Editor, EditRequest
from semfacediff.editing.control import Control
from semfacediff.labels import CELEBAMASK, LabelSpace
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.parsing.predict import Parser
from semfacediff.regions.masks import RegionRule, attribute_region, region_masks
from semfacediff.types import Faces, FaceSample, to_tensor, to_uint8

__all__ = ["check_data", "check_editor", "check_metric", "check_parser"]

_SIZE = 128
_RTOL = 1e-6
"""Between batches and orders, as records promise."""


def check_editor(editor: Editor, attribute: str = "hair", prompt: str = "purple hair", atol: float = 0.0) -> None:
    """Edits have their photos' size, float32 in [0, 1]; depend on the request alone (its seed, not the batch, the order
    or a global generator); and the request is never written into.

    Args:
        atol: by how much two edits of one request may differ; 0 = not at all, as on a CPU.
    """
    _must(isinstance(editor, Editor), f"expected a subclass of Editor, got {type(editor).__name__}")
    editor.check({attribute: prompt})
    editor.prepare()
    requests = [_request(sample, attribute, prompt, seed) for seed, sample in enumerate(_faces())]
    singly = [_edited(editor, [request])[0] for request in requests]
    for request, edit in zip(requests, singly, strict=True):
        try:
            checked_edit(edit, request.photo)
        except ValueError as e:
            raise AssertionError(str(e)) from e
        _must(edit.dtype == torch.float32, f"an edit is float32, got {edit.dtype}")
        again = _edited(editor, [request])[0]
        _same(edit, again, atol, "the same request gave another edit: draw from request.seed alone")
    backward = [_edited(editor, [request])[0] for request in reversed(requests)][::-1]
    for one, other in zip(singly, backward, strict=True):
        _same(one, other, atol, "an edit depends on those before it")
    if editor.batchable:
        together = _edited(editor, requests)
        _must(len(together) == len(requests), f"{len(requests)} requests gave {len(together)} edits")
        for one, other in zip(singly, together, strict=True):
            _same(one, other, max(atol, _RTOL), "an edit depends on its batch; fix it, or set batchable = False")


def check_metric(metric: Metric, parser: Parser | None = None) -> None:
    """Scores have the declared columns, lie within the declared bounds, are no NaN, are the same again, in any order
    and together; pairs are never written into; and every declared order of controls holds on drawn faces.

    Args:
        parser: parses the controls; without one their label maps are known for shifts alone and ``None`` elsewhere.
    """
    _must(isinstance(metric, Metric), f"expected a subclass of Metric, got {type(metric).__name__}")
    columns = set(metric.columns)
    _must(bool(columns), "columns: expected at least one name")
    _must(set(metric.higher_is_better) == columns, "higher_is_better: expected the names in columns")
    identity = metric.identity()
    json.dumps(identity)  # goes into the record
    bounds: Any = identity["range"]
    chains = [chain for of_column in metric.orders.values() for chain in of_column]
    named = {kind for chain in chains for one, _, other in relations(chain) for kind in (one, other)}
    kinds = sorted((named | {"nothing", "region_blur", "photo_noise"}) - {*SYSTEM})
    pairs = {(kind, i): _copied(_pair(i, kind, parser)) for kind in kinds for i in range(len(_faces()))}
    before = {key: _frozen(pair) for key, pair in pairs.items()}
    scores = {key: metric.score(pair) for key, pair in pairs.items()}
    for key, of_pair in scores.items():
        _must(set(of_pair) == columns, f"score: expected {sorted(columns)}, got {sorted(of_pair)}")
        for column, value in of_pair.items():
            of_column = bounds[column] if isinstance(bounds, Mapping) else bounds
            _in_bounds(column, value, of_column)
        _must(_frozen(pairs[key]) == before[key], "score wrote into its pair; work on a copy")
        if key[1] == 0:
            _must(metric.score(pairs[key]) == of_pair, "the same pair gave another score")
    keys = list(pairs)[::-1]
    for key, of_pair in zip(keys, metric.scores([pairs[key] for key in keys]), strict=True):
        for column, value in of_pair.items():
            same = value == scores[key][column] or _close(value, scores[key][column])
            _must(same, f"{column}: {scores[key][column]} alone, {value} in a batch of another order")
    metric.score(dataclasses.replace(pairs["nothing", 0], after=None, labels_after=None))
    for column, of_column in metric.orders.items():
        wrong, _ = contradicted(of_column, _means(scores, column))
        _must(not wrong, f"{column}: its declared order does not hold: {'; '.join(wrong)}")


def check_parser(parser: Parser | nn.Module, classes: int = 19) -> None:
    """A parser's label maps are int64 ``[H, W]`` on the CPU, of the photo's size and within its label space; the same
    again and in any order; the photo is never written into. Of an architecture: logits ``[N, classes, H, W]``, each
    photo's on its own, and ``encoder`` names its sub-modules."""
    if isinstance(parser, nn.Module):
        _check_network(parser, classes)
        return
    _must(isinstance(parser, Parser), f"expected a Parser or an nn.Module, got {type(parser).__name__}")
    n, samples, first = parser.label_space.n, _faces(), []
    for sample in samples:
        photo = to_tensor(sample.photo)
        kept, labels = photo.clone(), parser.before(sample, photo)
        _must(torch.equal(photo, kept), "before wrote into the photo; work on a copy")
        _check_labels(labels, photo, n)
        after = parser.after(sample, "hair", photo)
        if after is not None:
            _check_labels(after, photo, n)
        _must(torch.equal(photo, kept), "after wrote into the photo; work on a copy")
        first.append(labels)
    for sample, labels in reversed(list(zip(samples, first, strict=True))):
        _must(torch.equal(parser.before(sample, to_tensor(sample.photo)), labels), "the same photo gave other labels")


def check_data(faces: Faces, labels_needed: bool = True) -> None:
    """Ids are texts, unique, one a sample; photos are uint8 ``[H, W, 3]``, labels uint8 ``[H, W]`` within the label
    space; a sample is the same whenever it is read, also after another reader wrote into its arrays."""
    _must(len(faces) > 0, "expected at least one sample")
    _must(isinstance(faces.label_space, LabelSpace), "label_space: expected a LabelSpace")
    ids = list(faces.ids)
    _must(len(ids) == len(faces), f"{len(faces)} samples have {len(ids)} ids")
    _must(all(isinstance(id_, str) and id_ for id_ in ids), "ids: expected texts, none of them empty")
    _must(len(set(ids)) == len(ids), "ids: expected each once")
    first = {}
    for i, id_ in enumerate(ids):
        try:
            sample = checked_sample(faces[i], id_, faces.label_space, labels_needed)
        except ValueError as e:
            raise AssertionError(f"sample {i}: {e}") from e
        first[i] = [sample.photo.tobytes(), None if sample.labels is None else sample.labels.tobytes()]
        for array in (sample.photo, sample.labels):
            if array is not None and array.flags.writeable:
                array.fill(0)
    for i in reversed(range(len(ids))):
        again = faces[i]
        read = [again.photo.tobytes(), None if again.labels is None else again.labels.tobytes()]
        _must(read == first[i], f"sample {i} is another one when it is read again")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


@functools.cache
def _faces() -> tuple[FaceSample, ...]:
    """Three drawn faces of two sizes, one of which is no square."""
    first, second, third = (ToyFaces(8, _SIZE)[i] for i in (0, 5, 7))
    cut = slice(None), slice(8, -8)
    second = dataclasses.replace(second, photo=second.photo[cut].copy(), labels=second.label_map[cut].copy())
    return first, second, third


def _request(sample: FaceSample, attribute: str, prompt: str, seed: int) -> EditRequest:
    labels = torch.from_numpy(sample.label_map.astype(np.int64))
    masks = region_masks(labels, attribute, CELEBAMASK, RegionRule(dilate_px=3))
    photo = to_tensor(sample.photo)
    return EditRequest(
        sample.id, attribute, photo, masks, prompt, None, seed, labels=labels, label_space=CELEBAMASK,
        frame=sample.photo.shape[:2],
    )  # fmt: skip


_generator = iter(range(1, 2**31))


def _edited(editor: Editor, requests: Sequence[EditRequest]) -> list[torch.Tensor]:
    """The editor's answer, with another state of the global generators each time."""
    given = [request.copied() for request in requests]
    state, seed = np.random.get_state(), next(_generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        edits = [edit.clone() for edit in editor.edit(given)]
    np.random.set_state(state)
    for one, kept in zip(given, requests, strict=True):
        m, n = one.masks, kept.masks
        untouched = torch.equal(one.photo, kept.photo) and torch.equal(m.semantic, n.semantic)
        untouched &= torch.equal(m.generation, n.generation) and torch.equal(m.blend, n.blend)
        _must(untouched, "the editor wrote into its request; work on a copy")
    return edits


def _same(one: torch.Tensor, other: torch.Tensor, atol: float, otherwise: str) -> None:
    apart = (one - other).abs().max().item() if one.shape == other.shape else math.inf
    _must(apart <= atol, f"{otherwise} (largest difference {apart:.3g})")


@functools.cache
def _pair(i: int, kind: str, parser: Parser | None) -> EditPair:
    """Face ``i`` under a control, as it is before any composite."""
    sample = _faces()[i]
    request = _request(sample, "hair", "purple hair", 3)
    edit, labels = Control(kind).edit([request])[0], torch.from_numpy(sample.label_map.astype(np.int64))
    after = labels if kind == "nothing" else parser.after(sample, "hair", edit) if parser else None
    if kind.startswith("shift") and not parser:
        drawn = (labels / 18).expand(3, -1, -1).float().contiguous()
        after = (Control(kind).edit([dataclasses.replace(request, photo=drawn)])[0][0] * 18).round().long()
    return EditPair(
        photo=sample.photo,
        edit=to_uint8(edit),
        blend=(request.masks.blend[0] * 255).round().byte().numpy(),
        before=attribute_region(labels, "hair", CELEBAMASK),
        after=None if after is None else attribute_region(after, "hair", CELEBAMASK),
        prompt="purple hair",
        attribute="hair",
        labels_before=labels.numpy(),
        labels_after=None if after is None else after.numpy(),
    )


def _copied(pair: EditPair) -> EditPair:
    arrays: dict[str, Any] = {field: value for field, value in vars(pair).items() if isinstance(value, np.ndarray)}
    return dataclasses.replace(pair, **{field: value.copy() for field, value in arrays.items()})


def _frozen(pair: EditPair) -> list[bytes | None]:
    arrays = (pair.photo, pair.edit, pair.blend, pair.before, pair.after, pair.labels_before, pair.labels_after)
    return [None if array is None else array.tobytes() for array in arrays]


def _in_bounds(column: str, value: object, bounds: Sequence[float | None]) -> None:
    if value is None or isinstance(value, str):
        return
    _must(isinstance(value, float | int), f"{column}: expected a float, a text or None, got {type(value).__name__}")
    number, (low, high) = float(value), bounds  # type: ignore[arg-type]
    _must(not math.isnan(number), f"{column}: got NaN; a missing value is None")
    inside = (low is None or number >= low - _RTOL) and (high is None or number <= high + _RTOL)
    _must(inside, f"{column}: {number} lies outside its declared range {low}..{high}")


def _close(one: object, other: object) -> bool:
    numbers = isinstance(one, float) and isinstance(other, float)
    return numbers and math.isclose(one, other, rel_tol=_RTOL, abs_tol=_RTOL)  # type: ignore[arg-type]


def _means(scores: Mapping[tuple[str, int], Mapping], column: str) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for (kind, _), of_pair in scores.items():
        if isinstance(of_pair[column], float | int):
            values[kind].append(float(of_pair[column]))
    return {kind: sum(found) / len(found) for kind, found in values.items()}


def _check_labels(labels: object, photo: torch.Tensor, n: int) -> None:
    size = list(photo.shape[1:])
    if not isinstance(labels, torch.Tensor):
        raise AssertionError(f"expected int64 {size} on the CPU, got {type(labels).__name__}")
    fits = labels.dtype == torch.int64 and labels.device.type == "cpu" and list(labels.shape) == size
    _must(fits, f"expected int64 {size} on the CPU, got {labels.dtype} {list(labels.shape)} on {labels.device}")
    low, high = int(labels.min()), int(labels.max())
    _must(low >= 0 and high < n, f"labels {low}..{high} lie outside the label space (0..{n - 1})")


@torch.inference_mode()
def _check_network(model: nn.Module, classes: int) -> None:
    encoder = getattr(model, "encoder", None)
    _must(isinstance(encoder, tuple) and all(hasattr(model, name) for name in encoder),
          "encoder: expected a tuple with the names of the encoder's sub-modules")  # fmt: skip
    photos = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    training, kept = model.training, photos.clone()
    model.eval()
    logits, alone = model(photos), model(photos[1:])
    model.train(training)
    _must(torch.equal(photos, kept), "the network wrote into the photos; work on a copy")
    shape = [2, classes, 64, 64]
    _must(list(logits.shape) == shape, f"logits: expected {shape}, got {list(logits.shape)}")
    _must(bool(torch.isfinite(logits).all()), "logits: expected finite numbers")
    scale = float(logits.abs().max())
    _same(logits[1], alone[0], 1e-4 * max(scale, 1.0), "logits depend on the other photos of a batch")

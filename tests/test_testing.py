"""The conformance kit: built-in parts keep the contracts, and each way to break one is found."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from semfacediff import config
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.base import Editor
from semfacediff.editing.command import Command
from semfacediff.editing.control import Control
from semfacediff.editing.identity import Identity
from semfacediff.editing.precomputed import Precomputed
from semfacediff.editing.recolor import Recolor
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.base import NO_RESIZE, Metric, declared
from semfacediff.metrics.opening import open_metrics
from semfacediff.parsing import ModelParser, build_parser, load_parser
from semfacediff.parsing.ground_truth import GroundTruthParser
from semfacediff.testing import check_data, check_editor, check_metric, check_parser

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "editor",
    [Identity(), Recolor(), Control("asked_colour"), Control("photo_noise"), Control("other_face"),
     Command(["cp", "{photo}", "{out}"])],
    ids=lambda e: f"{e.name}-{getattr(e, 'kind', '')}",
)  # fmt: skip
def test_editors(editor):
    check_editor(editor)


def test_the_precomputed_editor(tmp_path, encode):
    (tmp_path / "hair").mkdir()
    faces = ToyFaces(8, 128)
    for i in (0, 5, 7):
        photo = faces[i].photo if i != 5 else faces[i].photo[:, 8:-8]
        (tmp_path / "hair" / f"{faces[i].id}.png").write_bytes(encode(255 - photo))
    check_editor(Precomputed(tmp_path))


def test_metrics(compose):
    settings = config.typed(compose("evaluate", "metrics=no_weights"), config.EditingEvaluation)
    for metric in open_metrics(settings, CPU).each:
        check_metric(metric)


def test_parsers(tiny_checkpoint):
    check_parser(GroundTruthParser(CELEBAMASK))
    model, card = load_parser(tiny_checkpoint)
    check_parser(ModelParser(model, card, CPU))
    check_parser(build_parser("fastscnn_lite"))


def test_data(toy_folder):
    check_data(ToyFaces(3, 64))
    root = toy_folder(3)
    check_data(FileFaces(index_folder(root, "images", "masks", True).entries, CELEBAMASK))


class Own(Editor):
    """Does to a photo what it is told."""

    batchable = True

    def __init__(self, do):
        self.do = do

    def edit(self, requests):
        return [self.do(i, r) for i, r in enumerate(requests)]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda i, r: r.photo[:, 1:], r"the edit is \[3, 127, 128\], its photo \[3, 128, 128\]; editors keep the size"),
        (lambda i, r: r.photo * float("nan"), r"values nan..nan; editors return photos in \[0,1\]"),
        (lambda i, r: r.photo * 2 - 1, r"editors return photos in \[0,1\]"),
        (lambda i, r: r.photo.double(), r"an edit is float32, got torch.float64"),
        (lambda i, r: torch.rand(r.photo.shape), r"draw from request.seed alone"),
        (lambda i, r: r.photo.mul_(0.5), r"the editor wrote into its request"),
        (lambda i, r: r.photo + r.masks.blend.mul_(0), r"the editor wrote into its request"),
        (lambda i, r: (r.photo + 0.1 * i).clamp(0, 1), r"depends on its batch"),
        (lambda i, r: torch.from_numpy(np.random.rand(*r.photo.shape)).float(), r"draw from request.seed alone"),
    ],
)
def test_editors_that_break_a_contract(do, message):
    with pytest.raises(AssertionError, match=message):
        check_editor(Own(do))


class Change(Metric):
    columns = ("change",)
    higher_is_better = {"change": False}  # noqa: RUF012
    orders = {"change": ("nothing < photo_noise",)}  # noqa: RUF012

    def __init__(self, do=lambda value, pair: value, bounds=(0, 255), columns=("change",)):
        self.do, self.bounds, self.names = do, bounds, columns
        self.calls = 0

    def score(self, pair):
        self.calls += 1
        value = float(np.abs(pair.edit.astype(float) - pair.photo).mean())
        return dict.fromkeys(self.names, self.do(value, pair))

    def identity(self):
        return declared("change", implementation="here", version="1", bounds=list(self.bounds), unit="levels",
                        higher_is_better=False, resize=NO_RESIZE)  # fmt: skip


def written(value, pair):
    pair.photo[:] = 0
    return value


drawn = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Change(lambda v, p: float("nan")), r"change: got NaN; a missing value is None"),
        (Change(bounds=(0, 1)), r"lies outside its declared range 0..1"),
        (Change(columns=("other",)), r"score: expected \['change'\], got \['other'\]"),
        (Change(written), r"wrote into its pair"),
        (Change(lambda v, p: float(drawn.random())), r"the same pair gave another score"),
        (Change(lambda v, p: 255 - v), r"change: its declared order does not hold: "),
        (Change(lambda v, p: v + p.after.sum() * 0), r"NoneType"),
    ],
)
def test_metrics_that_break_a_contract(metric, message):
    check_metric(Change())
    with pytest.raises((AssertionError, AttributeError), match=message):
        check_metric(metric)


class Wrong(GroundTruthParser):
    def __init__(self, do):
        super().__init__(CELEBAMASK)
        self.do = do

    def before(self, sample, photo):
        return self.do(super().before(sample, photo), photo)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda labels, photo: labels.int(), r"expected int64 \[128, 128\] on the CPU, got torch.int32"),
        (lambda labels, photo: labels[1:], r"got torch.int64 \[127, 128\]"),
        (lambda labels, photo: labels + 5, r"lie outside the label space \(0..18\)"),
        (lambda labels, photo: (photo.zero_(), labels)[1], r"before wrote into the photo"),
        (lambda labels, photo: torch.randint_like(labels, 19), r"the same photo gave other labels"),
    ],
)
def test_parsers_that_break_a_contract(do, message):
    with pytest.raises(AssertionError, match=message):
        check_parser(Wrong(do))


def test_a_network_that_mixes_its_photos():
    class Mixing(nn.Module):
        encoder = ("layer",)

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 19, 1)

        def forward(self, x):
            return self.layer(x - x.mean(0))

    with pytest.raises(AssertionError, match="logits depend on the other photos of a batch"):
        check_parser(Mixing())


class Some(ToyFaces):
    def __init__(self, do):
        super().__init__(3, 64)
        self.do, self.kept = do, {}

    def __getitem__(self, i):
        return self.do(self, i, super().__getitem__(i))


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda f, i, s: dataclasses.replace(s, id="x"), r"sample 0: its id is 'x'"),
        (lambda f, i, s: dataclasses.replace(s, photo=s.photo / 255), r"expected uint8 \[H, W, 3\]"),
        (lambda f, i, s: dataclasses.replace(s, labels=s.labels + 19), r"lies outside space 'celebamask'"),
        (lambda f, i, s: dataclasses.replace(s, labels=None), r"it has no label map"),
        (lambda f, i, s: f.kept.setdefault(i, s), r"is another one when it is read again"),
    ],
)
def test_data_that_break_a_contract(do, message):
    with pytest.raises(AssertionError, match=message):
        check_data(Some(do))

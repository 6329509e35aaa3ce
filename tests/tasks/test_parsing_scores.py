"""One pass over photos: rows that any process can make, losses of any criterion, files that the tables read."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from semfacediff.data.subset import Subset
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES, conversion
from semfacediff.parsing import ParserCard
from semfacediff.parsing.predict import ModelParser
from semfacediff.tasks.parsing.scores import (
    PhotoScorer,
    parsing_summary,
    pixel_cross_entropy,
    score_faces,
    scores_identity,
    write_scores,
)


class Thresholds(torch.nn.Module):
    """Logits from colours by a fixed 1x1 convolution: quick, deterministic, many classes."""

    def __init__(self, classes=19):
        super().__init__()
        self.net = torch.nn.Conv2d(3, classes, 1)
        generator = torch.Generator().manual_seed(0)
        for p in self.net.parameters():
            p.data = torch.randn(p.shape, generator=generator)

    def forward(self, x):
        return self.net(x)


def parser_of(space=CELEBAMASK, input_size=64):
    card = ParserCard("any", space.name, input_size, (0.5,) * 3, (0.25,) * 3)
    return ModelParser(Thresholds(space.n), card, torch.device("cpu"))


@pytest.fixture(scope="module")
def faces():
    return ToyFaces(5, 72)


@pytest.fixture(scope="module")
def parser():
    return parser_of()


@pytest.fixture(scope="module")
def rows(parser, faces):
    return score_faces(parser, faces, quiet=True)


def test_rows_are_those_of_the_parsers_own_maps(rows, parser, faces):
    assert [row["sample_id"] for row in rows] == faces.ids
    for i in (0, 3):
        sample = faces[i]
        photo = torch.from_numpy(sample.photo / np.float32(255)).permute(2, 0, 1)[None]
        predicted = parser.predict(photo)[0].numpy()
        assert rows[i]["pixel_accuracy"] == pytest.approx((predicted == sample.labels).mean(), abs=1e-12)
        assert len(np.unique(predicted)) > 2


def test_processes_that_share_the_photos_make_the_same_record(rows, parser, faces, tmp_path):
    shares = [score_faces(parser, faces, indices=range(k, len(faces), 2), workers=k, quiet=True) for k in (1, 0)]
    for name, made in (("one", rows), ("two", [row for share in shares for row in share])):
        ordered = sorted(made, key=lambda row: row["sample_id"])
        write_scores(ordered, CELEBAMASK, "strict", 42, tmp_path / name)
    for file in ("summary.csv", "confusion.csv", "samples.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_summary_does_not_depend_on_the_order_of_the_rows(rows):
    a, b = (parsing_summary(r, CELEBAMASK, "strict", 42) for r in (rows, rows[::-1]))
    assert a.equals(b)


def test_another_criterion_is_summed_with_its_weights(parser, faces):
    weights = torch.linspace(0.1, 2, 19)

    def weighted(logits, labels):
        each = torch.nn.functional.cross_entropy(logits, labels, weights, reduction="sum")
        return each, weights[labels].sum()

    rows = score_faces(parser, faces, criterion=weighted, indices=[0, 1], quiet=True)
    logits, labels = [], []
    for i in (0, 1):
        sample = faces[i]
        small = parser.logits(torch.from_numpy(sample.photo / np.float32(255)).permute(2, 0, 1)[None])
        logits.append(torch.nn.functional.interpolate(small, sample.labels.shape, mode="bilinear"))
        labels.append(torch.from_numpy(sample.labels).long()[None])
    expected = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(labels), weights)
    table = parsing_summary(rows, CELEBAMASK, "strict", 42).set_index("class")
    assert table.loc["loss", "loss"] == pytest.approx(float(expected), rel=1e-5)


def test_plain_cross_entropy_sums_over_pixels():
    logits, labels = torch.randn(1, 5, 4, 3, generator=torch.Generator().manual_seed(0)), torch.ones(1, 4, 3).long()
    total, weight = pixel_cross_entropy(logits, labels)
    assert weight == 12
    assert float(total / weight) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-6)


def test_logits_of_another_order_of_the_same_classes_give_the_same_row(rows, parser, faces):
    other = SPACES["segface"]
    permuted = parser_of(other)
    to_other = conversion(CELEBAMASK, other)
    for mine, theirs in zip(permuted.model.parameters(), parser.model.parameters(), strict=True):
        mine.data[to_other] = theirs.data
    row = PhotoScorer(permuted, CELEBAMASK).row(faces[0])
    assert {k: v for k, v in row.items() if k != "loss"} == {k: v for k, v in rows[0].items() if k != "loss"}
    assert row["loss"] == pytest.approx(rows[0]["loss"], rel=1e-6)


def test_a_network_without_some_of_the_classes_has_no_loss(faces):
    scorer = PhotoScorer(parser_of(SPACES["lapa"]), CELEBAMASK)
    row = scorer.row(faces[0])
    assert row["loss"] is None
    assert not scorer.gives_loss
    assert "loss" not in {entry["metric"] for entry in scores_identity(scorer, 1, 5)}


def test_a_network_with_classes_that_the_labels_lack_is_refused():
    with pytest.raises(UserError, match="labels of space 'celebamask' cannot be converted to 'lapa'"):
        PhotoScorer(parser_of(), SPACES["lapa"])


@pytest.fixture(scope="module")
def scored(parser, faces):
    return {p: score_faces(parser, faces, p, quiet=True) for p in ("ce7454", "segface")}


class TestProtocols:
    def test_the_report_counts_at_512(self, scored):
        for row in scored["ce7454"]:
            assert sum(n for *_, n in row["confusion"]) == 512 * 512

    def test_the_report_takes_argmax_of_logits_at_512(self, scored, parser, faces):
        sample = faces[1]
        photo = torch.from_numpy(sample.photo / np.float32(255)).permute(2, 0, 1)[None]
        predicted = parser.predict(photo, (512, 512))[0].numpy()
        place = np.floor((np.arange(512) + 0.5) * 72 / 512).astype(int)
        right = (predicted == sample.labels[np.ix_(place, place)]).mean()
        assert scored["ce7454"][1]["pixel_accuracy"] == pytest.approx(right, abs=1e-12)

    def test_segface_counts_at_the_input_size_and_at_the_labels_own(self, scored):
        for row in scored["segface"]:
            assert sum(n for *_, n in row["confusion"]) == 64 * 64
            assert sum(n for *_, n in row["confusion_native"]) == 72 * 72

    def test_segface_gives_the_network_a_bicubic_square(self, scored, parser, faces):
        from PIL import Image

        sample = faces[2]
        small = np.asarray(Image.fromarray(sample.photo).resize((64, 64), Image.Resampling.BICUBIC))
        labels = np.asarray(Image.fromarray(sample.labels).resize((64, 64), Image.Resampling.NEAREST))
        logits = parser.logits(torch.from_numpy(small / np.float32(255)).permute(2, 0, 1)[None])
        row = scored["segface"][2]
        assert row["pixel_accuracy"] == pytest.approx((logits[0].argmax(0).numpy() == labels).mean(), abs=1e-12)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels.astype(np.int64))[None])
        assert row["loss"] == pytest.approx(float(loss), rel=1e-6)

    def test_at_the_labels_own_size_native_and_published_are_one(self, faces):
        rows = score_faces(parser_of(input_size=72), faces, "segface", quiet=True)
        table = parsing_summary(rows, CELEBAMASK, "segface", 42)
        for column in ("iou", "f1"):
            there = table[f"{column}_native"].notna()
            assert there.sum() > 10
            assert table.loc[there, column].tolist() == table.loc[there, f"{column}_native"].tolist()
        assert rows[0]["confusion"] == rows[0]["confusion_native"]

    def test_the_same_photos_score_differently_under_each(self, scored, rows):
        def miou(made, protocol):
            return parsing_summary(made, CELEBAMASK, protocol, 1).set_index("class").loc["miou", "iou"]

        values = {miou(rows, "strict"), *(miou(scored[p], p) for p in scored)}
        assert len(values) == 3


def test_ids_that_look_like_numbers_keep_their_order(parser, faces):
    rows = score_faces(parser, Subset(faces, [4, 2]), quiet=True)
    assert [row["sample_id"] for row in rows] == [faces.ids[4], faces.ids[2]]
    frame = pd.DataFrame(rows)
    assert frame["sample_id"].map(type).eq(str).all()


def test_rows_are_as_the_scorer_says(parser, faces):
    sample = faces[0]
    flipped = dataclasses.replace(sample, labels=np.ascontiguousarray(sample.labels[::-1]))
    a, b = PhotoScorer(parser, CELEBAMASK).row(sample), PhotoScorer(parser, CELEBAMASK).row(flipped)
    assert a["confusion"] != b["confusion"]


def test_merged_regions_of_helen_are_unions(faces):
    """Each beside the mask of the union, photo by photo; in no mean."""
    helen = SPACES["helen"]

    class Helen(list):
        label_space, ids = helen, [f"{i}" for i in range(3)]

    drawn = [dataclasses.replace(faces[i], id=f"{i}", labels=(faces[i].labels % helen.n)) for i in range(3)]
    rows = score_faces(parser_of(helen, 72), Helen(drawn), "segface", quiet=True)
    found = parsing_summary(rows, helen, "segface", 42).set_index("class")
    scorer = PhotoScorer(parser_of(helen, 72), helen, "segface")
    for name, classes in (("merged_brows", (2, 3)), ("merged_mouth", (7, 8, 9)), ("merged_overall", range(2, 10))):
        tp = union = both = 0
        for sample in drawn:
            _, truth, predicted = scorer.parsed(sample)
            a, b = np.isin(truth, list(classes)), np.isin(predicted, list(classes))
            tp, union, both = tp + (a & b).sum(), union + (a | b).sum(), both + a.sum() + b.sum()
        assert found.loc[name, "iou"] == pytest.approx(tp / union)
        assert found.loc[name, "f1"] == found.loc[name, "f1_native"] == pytest.approx(2 * tp / both)
    assert found.loc["miou", "iou"] == pytest.approx(found["iou"].iloc[:11].mean())
    assert "merged_eyes" not in parsing_summary(rows, helen, "strict", 42)["class"].tolist()

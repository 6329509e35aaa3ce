"""Validation between epochs: a photo's numbers, whether it goes through the network alone or in company."""

import dataclasses

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from semfacediff.data.toy import ToyFaces
from semfacediff.parsing import ModelParser, ParserCard
from semfacediff.tasks.parsing.validation import validate

CPU = torch.device("cpu")


class Mixing(torch.nn.Module):
    """Logits from a neighbourhood, by fixed weights, and a little from where the landmarks lie."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.net = torch.nn.Conv2d(3, 19, 3, padding=1)
        for p in self.net.parameters():
            p.data = torch.randn(p.shape, generator=generator)
        self.sizes = []

    def forward(self, x, *marks):
        self.sizes.append(len(x))
        moved = marks[0].nan_to_num().mean((1, 2)).view(-1, 1, 1, 1) / 100 if marks else 0
        return self.net(x) + moved * torch.arange(19.0).view(1, 19, 1, 1)


class Faces:
    """Of two sizes; ``landmarks``: all but the second have some."""

    def __init__(self, landmarks: bool):
        self.small, self.large, self.landmarks = ToyFaces(5, 48), ToyFaces(5, 64), landmarks

    def __len__(self):
        return 5

    def __getitem__(self, i):
        sample = (self.small if i % 2 else self.large)[i]
        marks = np.full((5, 2), 10.0 + i, np.float32) if self.landmarks and i != 1 else None
        return dataclasses.replace(sample, landmarks=marks)


@pytest.mark.parametrize("landmarks", [False, True])
def test_a_batch_is_validated_as_its_photos(landmarks, monkeypatch):
    monkeypatch.setattr(ParserCard, "uses_landmarks", landmarks)
    card = ParserCard("any", "celebamask", 40, (0.5,) * 3, (0.25,) * 3)
    net = Mixing()
    parser, accelerator = ModelParser(net, card, CPU), Accelerator(cpu=True)

    def criterion(logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels)

    alone = validate(parser, Faces(landmarks), criterion, accelerator)
    together = validate(parser, Faces(landmarks), criterion, accelerator, workers=2, at_once=2)
    assert net.sizes == [1] * 5 + [2, 2, 1]
    # One product of 27 terms a logit: in another order labels change in ties alone.
    assert together.loss == pytest.approx(alone.loss, rel=1e-5)
    assert np.array_equal(together.images, alone.images)
    assert np.abs(together.confusion - alone.confusion).sum() <= 0.001 * alone.confusion.sum()
    expected = [
        criterion(parser.logits_of([s]), _labels(s.labels, 40)).item() for s in (Faces(landmarks)[i] for i in range(5))
    ]
    assert alone.loss == pytest.approx(np.mean(expected), rel=1e-6)


def _labels(labels, side):
    there = np.asarray(Image.fromarray(labels).resize((side, side), Image.Resampling.NEAREST))
    return torch.from_numpy(there.astype(np.int64))[None]

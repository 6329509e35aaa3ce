"""A store whose parser knows a pixel's class by its colour, and a face painted in those colours."""

import io
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from semfacediff.commands.edit import one_photo as photo_editing
from semfacediff.labels import CELEBAMASK, palette
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.web.files import Files
from semfacediff.web.model_store import ModelStore

_COLOURS = torch.from_numpy(palette(CELEBAMASK).astype(np.float32) / 255)
_PARTS = (
    ("hair", 0, -0.4, 1.2, 1.1),
    ("skin", 0, 0, 1, 1.2),
    ("l_eye", 0.4, -0.2, 0.25, 0.15),
    ("r_eye", -0.4, -0.2, 0.25, 0.15),
    ("nose", 0, 0.2, 0.2, 0.3),
    ("u_lip", 0, 0.8, 0.4, 0.15),
)
"""Class, centre and radii of ellipses, in radii of the face."""


class ByColour(nn.Module):
    def forward(self, x):
        return -100 * (x[:, None] - _COLOURS[None, :, :, None, None]).square().sum(2)


def _face(height=96, width=96, centre=0.5):
    """uint8 ``[H, W, 3]``."""
    y, x = np.mgrid[:height, :width]
    u, v = (x - centre * width) / (0.3 * height), (y - 0.5 * height) / (0.3 * height)
    labels = np.zeros((height, width), int)
    for name, dx, dy, rx, ry in _PARTS:
        labels[((u - dx) / rx) ** 2 + ((v - dy) / ry) ** 2 <= 1] = CELEBAMASK.index(name)
    return palette(CELEBAMASK)[labels]


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="session")
def face():
    """``face(height, width, centre)``: PNG of a painted face."""
    return lambda *where: _png(_face(*where))


@pytest.fixture(scope="module", autouse=True)
def by_colour():
    """Whatever parser is named, it is that one."""
    card = ParserCard("by_colour", "celebamask", 96, [0.0] * 3, [1.0] * 3, {}, {})
    with pytest.MonkeyPatch.context() as m:
        m.setattr(photo_editing, "open_trained", lambda settings: (ByColour(), card, "d" * 64))
        yield


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Those of a server, below ``tmp_path``."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Files()
    yield found
    found.close()


@pytest.fixture(scope="module")
def store(by_colour):
    return ModelStore(parser="ckpt", device="cpu")

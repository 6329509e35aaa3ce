"""A page that is served for real, with a parser that sees skin everywhere; and the attack that can be run by hand."""

import importlib.util
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from semfacediff.commands.edit import one_photo as photo_editing
from semfacediff.commands.edit import photos as edit_photos
from semfacediff.commands.parse import photos as parse_photos
from semfacediff.parsing import opening
from semfacediff.parsing.checkpoint import ParserCard


class SkinEverywhere(nn.Module):
    def forward(self, x):
        logits = x.new_zeros(len(x), 19, *x.shape[2:])
        logits[:, 1] = 100
        return logits


class SkinOnTheLeft(SkinEverywhere):
    def forward(self, x):
        logits = super().forward(x)
        logits[:, 13, :, x.shape[3] // 2 :] = 200  # hair
        return logits


@pytest.fixture
def skin(monkeypatch):
    """Whatever checkpoint is named, it is a parser that sees skin on the left; edits draw no strips, to save time."""
    card = ParserCard("skin", "celebamask", 32, [0.0] * 3, [1.0] * 3, {}, {})
    for module in (opening, parse_photos, photo_editing):
        monkeypatch.setattr(module, "open_trained", lambda settings: (SkinOnTheLeft(), card, "d" * 64))
    monkeypatch.setattr(edit_photos, "panel_figure", lambda *_: None)


@pytest.fixture(scope="session")
def attack():
    """The script ``attack_page.py`` as a module."""
    spec = importlib.util.spec_from_file_location("attack_page", Path(__file__).with_name("attack_page.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page that is served: its ``port``, ``files``, ``store``, and the ``temporary`` folder."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'semfacediff[web]'")
    from semfacediff.web import page as module
    from semfacediff.web.files import Files
    from semfacediff.web.model_store import ModelStore
    from semfacediff.web.server import running

    card = ParserCard("skin", "celebamask", 32, [0.0] * 3, [1.0] * 3, {}, {})
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as m, socket.create_server(("127.0.0.1", 0)) as listening:
        m.setattr(tempfile, "tempdir", str(temporary))
        m.setattr(photo_editing, "open_trained", lambda settings: (SkinEverywhere(), card, "d" * 64))
        files, store = Files(), ModelStore(parser="ckpt", device="cpu")
        m.setenv("GRADIO_TEMP_DIR", str(files.root))
        port = listening.getsockname()[1]
        with running(module.server(module.build_page(store, None, files, [], "recolor"), files, port), listening):
            yield SimpleNamespace(port=port, files=files, store=store, temporary=temporary)
        files.close()

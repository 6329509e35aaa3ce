"""Only photo formats are opened, judged by their content; no file starts a program, whatever it is called."""

import ast
import base64
import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semfacediff import cli
from semfacediff.data import reading
from semfacediff.data.reading import colour_profile, decode_any, decode_labels, decode_photo, photo_size
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK

ROOT = Path(__file__).resolve().parents[2]
REFUSED = r"^x.jpg: not a readable image \(expected JPEG, PNG, WebP, TIFF, BMP or GIF\)$"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAEgAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5j"
    "bHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAKAAAAAEAAAAAAAAAAv///+gAAAACAAAAEHBp"
    "eGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAFBtZGF0AAAARCgBrxOA9SeBP//YlR/+3Pnh93Z8xP/7k66P5wfH"
    "/4fI3bgMOuHoSA2InH37tZw8y4OzWfFXc/6Zp6oO+gBR9dgi51y6"
)
"""64 x 40 px, red on the left and blue on the right."""
READERS = (
    lambda data: decode_photo(data, "x.jpg"),
    lambda data: photo_size(data, "x.jpg"),
    lambda data: decode_any(data, "x.jpg"),
    lambda data: decode_labels(data, "x.jpg", CELEBAMASK),
    lambda data: colour_profile(data, "x.jpg"),
)


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 64, 3), 9, np.uint8)).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def ghostscript(monkeypatch, tmp_path) -> Path:
    """A file that appears when Ghostscript is started: a program of that name stands before any other."""
    mark, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return mark


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_photo_formats_are_read(kind):
    data = encoded(kind)
    assert np.abs(decode_photo(data, "x.jpg").astype(int) - 9).max() <= 2
    assert photo_size(data, "x.jpg") == (40, 64)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read(kind):
    more = [Image.fromarray(np.full((40, 64, 3), 200, np.uint8))]
    assert np.abs(decode_photo(encoded(kind, save_all=True, append_images=more), "x.jpg").astype(int) - 9).max() <= 2


@pytest.mark.parametrize("kind", "ICO TGA PPM PCX SGI JPEG2000 DDS IM ICNS PDF EPS AVIF".split())
@pytest.mark.parametrize("read", READERS)
def test_other_formats_are_refused_whatever_they_are_called(kind, read):
    with pytest.raises(UserError, match=REFUSED):
        read(encoded(kind))


@pytest.mark.parametrize("read", READERS)
def test_an_eps_starts_nothing(read, ghostscript):
    with pytest.raises(UserError, match=REFUSED):
        read(EPS)
    assert not ghostscript.exists()


def test_without_the_list_it_would(ghostscript):
    """Else the test above could not fail."""
    from PIL import EpsImagePlugin

    EpsImagePlugin.gs_binary = None  # it is looked for once
    with contextlib.suppress(OSError), Image.open(io.BytesIO(EPS)) as image:
        image.load()
    EpsImagePlugin.gs_binary = None
    assert ghostscript.exists()


def test_in_a_folder_it_is_one_failed_photo(ghostscript, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(EPS)
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(photos / "b.png")
    assert cli.main(["parse", str(photos), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert "a.jpg: not a readable image" in said.err
    assert (tmp_path / "out" / "b.png").exists()
    assert not ghostscript.exists()


def test_heic_is_read_where_its_reader_is_installed():
    pytest.importorskip("pi_heif", reason="needs pi-heif: pip install 'semfacediff[heic]'")
    photo = decode_photo(HEIC, "x.heic").astype(int)
    assert photo.shape == (40, 64, 3)
    assert np.abs(photo[:, :28] - (200, 40, 40)).max() < 12
    assert np.abs(photo[:, 36:] - (40, 40, 200)).max() < 12
    assert photo_size(HEIC, "x.heic") == (40, 64)


def test_heic_without_its_reader_names_it(monkeypatch):
    monkeypatch.setattr(reading, "_formats", lambda: reading.FORMATS)
    with pytest.raises(
        UserError, match=r"^x.heic: HEIC is read with pi-heif alone: pip install 'semfacediff\[heic\]'$"
    ):
        decode_photo(HEIC, "x.heic")


def opened_images(file: Path) -> list[ast.Call]:
    """Calls of ``Image.open``, by whatever name it is imported."""
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text if "open" in text and "Image" in text else "")
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image"
        for alias in node.names
        if alias.name == "open"
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and ast.unparse(node.func).endswith("Image.open"))
            or (isinstance(node.func, ast.Name) and node.func.id in imported)
        )
    ]


def test_the_one_reader_opens_images_and_nothing_else():
    """Benchmarks and drawings that do must name their formats."""
    package = {file: opened_images(file) for file in (ROOT / "src").rglob("*.py")}
    assert [file.name for file, calls in package.items() if calls] == ["reading.py"]
    others = [*ROOT.glob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]
    for call in (call for calls in (package.values(), map(opened_images, others)) for found in calls for call in found):
        assert "formats" in {keyword.arg for keyword in call.keywords}, ast.unparse(call)


def test_the_lint_sees_calls_by_any_name(tmp_path):
    file = tmp_path / "x.py"
    for text in (
        "from PIL import Image\nImage.open(f)",
        "import PIL.Image\nPIL.Image.open(f)",
        "from PIL.Image import open as o\no(f)",
        "from PIL import Image as PilImage\nPilImage.open(f)",
    ):
        file.write_text(text)
        assert len(opened_images(file)) == 1, text

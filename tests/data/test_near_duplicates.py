"""Photos that are nearly the same: what counts, and what the command says of a data set that holds some."""

import io
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from semfacediff.cli import main
from semfacediff.commands.check_data import parts
from semfacediff.data.near_duplicates import BITS, MAX_BITS, hashes, near_duplicates, thumb
from semfacediff.data.toy import ToyFaces


def scene(seed: int) -> np.ndarray:
    """A smooth random photo, uint8 [200, 160, 3]: other than drawn faces, no two of them are alike."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return cv2.resize(small, (160, 200), interpolation=cv2.INTER_CUBIC)


def again(photo: np.ndarray, quality: int = 50, scale: float = 0.7) -> np.ndarray:
    """The photo at another size, as a JPEG."""
    small, file = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), io.BytesIO()
    Image.fromarray(small).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def test_another_size_and_compression_is_a_duplicate_and_another_photo_is_not():
    photos = [scene(seed) for seed in range(40)]
    found = near_duplicates(np.stack([thumb(p) for p in [*photos, again(photos[7]), photos[3]]]), block=5)
    assert [(p.first, p.second) for p in found] == [(3, 41), (7, 40)]
    assert (found[0].bits, found[0].levels) == (0, 0)
    assert 0 < found[1].levels < 5


def test_equal_hashes_of_another_light_are_no_duplicates():
    """A hash sees no brightness; the small copies do."""
    photo = scene(1) // 2
    pair = np.stack([thumb(photo), thumb(photo + 60)])
    assert (hashes(pair)[0] == hashes(pair)[1]).sum() >= BITS - MAX_BITS
    assert near_duplicates(pair) == []


def test_the_hash_is_that_of_opencvs_transform():
    thumbs = np.stack([thumb(scene(seed)) for seed in range(5)])
    for found, small in zip(hashes(thumbs), thumbs, strict=True):
        low = cv2.dct(small)[:8, :8].ravel()[1:]
        clear = np.abs(low - np.median(low)) > 1e-3  # rounding decides at the median itself
        np.testing.assert_array_equal(found[clear], (low > np.median(low))[clear])
        assert clear.sum() >= BITS - 1


def test_no_photos_have_no_pairs():
    assert near_duplicates(np.empty((0, 32, 32), np.float32)) == []


@pytest.fixture
def folder(tmp_path):
    """Ten photos, 0 mod 5 to validate, among them one of train's again."""
    labels = ToyFaces(1, 64)[0].labels
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        Image.fromarray(scene(i)[:160]).save(tmp_path / "images" / f"{i:05d}.png")
        Image.fromarray(labels).save(tmp_path / "masks" / f"{i:05d}.png")
    shutil.copyfile(tmp_path / "images" / "00003.png", tmp_path / "images" / "00005.png")
    return tmp_path


def test_the_command_names_what_two_parts_share(folder, capsys):
    words = ["check-data", "data=folder", f"data.root={folder}", "data.split_rule.modulo=5"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "train: 8, val: 2, test: 0 photos" in said
    assert "near-duplicates: 00003 (train) and 00005 (val), mean difference 0.0 of 255" in said
    assert said.endswith("near-duplicates in two parts: 1\n")
    assert main([*words, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [pair["ids"] for pair in shown["pairs"]] == [["00003", "00005"]]


def test_parts_that_share_nothing_end_with_0(folder, capsys):
    assert main(["check-data", "data=folder", f"data.root={folder}", "data.split_rule.modulo=7"]) == 0
    assert "near-duplicates: 00003 (train) and 00005 (train)" in capsys.readouterr().out


def test_a_defective_file_is_named(folder, capsys):
    (folder / "images" / "00004.png").write_bytes(b"no photo")
    assert main(["check-data", "data=folder", f"data.root={folder}"]) == 2
    assert "00004" in capsys.readouterr().err


def test_persons_of_two_parts(folder, capsys, monkeypatch):
    """Every photo has a face but 00007; the embedding is the mean colour, so that 00003 and 00005 are one person."""

    class Faces:
        def faces(self, photo):
            lone = np.array_equal(photo, scene(7)[:160])
            return [] if lone else [SimpleNamespace(points=np.zeros((5, 2)))]

    class Colour:
        def chip(self, photo, points):
            return photo

        def embed(self, chip):
            return chip.mean((0, 1))

    monkeypatch.setattr(parts, "Detector", Faces)
    monkeypatch.setattr(parts, "DlibFace", Colour)
    words = ["check-data", "data=folder", f"data.root={folder}", "data.split_rule.modulo=5", "--people"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert f"persons of val in train: 1 of 2 photos (distance < {parts.SAME_PERSON})" in said
    assert "persons of test in train: 0 of 0 photos" in said
    assert main([*words, "--json"]) == 1
    person = next(p for p in json.loads(capsys.readouterr().out)["pairs"] if p["kind"] == "person")
    assert (person["ids"], person["parts"], person["difference"]) == (["00005", "00003"], ["val", "train"], 0)

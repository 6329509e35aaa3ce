"""LaPa's and Helen's layouts, drawn in miniature: what is read, and what is said of files that cannot be."""

import shutil

import numpy as np
import pytest

from semfacediff import config
from semfacediff.data.helen import crop_box, index_helen
from semfacediff.data.landmarks import five_points, points_of
from semfacediff.data.lapa import COUNT, FIVE, index_lapa
from semfacediff.data.opening import open_data
from semfacediff.data.relabelled import Relabelled
from semfacediff.data.toy_landmarked import write_helen, write_lapa
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES

PLACED = {"subset": None, "n": None, "on_error": "error", "allow_mask_resize": False}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder, samples) of both layouts, not to be written to."""
    root = tmp_path_factory.mktemp("landmarked")
    return {"lapa": (root / "lapa", write_lapa(root / "lapa")), "helen": (root / "helen", write_helen(root / "helen"))}


@pytest.fixture
def copied(written, tmp_path):
    """``copied(name)``: a folder of one's own."""

    def copy(name):
        return shutil.copytree(written[name][0], tmp_path / name)

    return copy


def settings(name, root, **changes):
    own = {"lapa": {}, "helen": {"val": "held_out", "crop": True}}[name]
    kind = {"lapa": config.LapaData, "helen": config.HelenData}[name]
    plain = {"name": name, "label_space": name, "root": str(root), "split": "all", **PLACED, **own}
    return kind(**{**plain, **changes})


def read(name, root, **changes):
    return open_data(settings(name, root, **changes))


class TestLapa:
    def test_photos_labels_and_landmarks_are_those_that_were_written(self, written):
        root, samples = written["lapa"]
        data = read("lapa", root)
        assert data.faces.ids == sorted(s.id for s in samples)
        assert data.label_space is SPACES["lapa"]
        found = dict(zip(data.faces.ids, data.faces, strict=True))
        for sample in samples:
            assert np.array_equal(found[sample.id].photo, sample.photo)
            assert np.array_equal(found[sample.id].labels, sample.labels)
            np.testing.assert_allclose(found[sample.id].landmarks, sample.landmarks, rtol=0, atol=1e-5)
            assert found[sample.id].landmarks.dtype == np.float32

    def test_the_five_are_those_of_the_published_code(self):
        numbered = np.stack([np.arange(COUNT), 10 * np.arange(COUNT)], axis=1)
        assert five_points(numbered, FIVE)[:, 0].tolist() == [(74 + 104) / 2, (83 + 105) / 2, 54, 84, 90]

    def test_parts_are_folders(self, written):
        root, samples = written["lapa"]
        for part, n in (("train", 6), ("val", 2), ("test", 2)):
            ids = read("lapa", root, split=part).faces.ids
            assert ids == sorted(s.id for s in samples if s.id.startswith(part))
            assert len(ids) == n
        drawn = {"seed": 0, "train": 5, "val": 2, "test": 1}
        subset = config.SubsetConfig(**drawn)
        parts = [read("lapa", root, split=part, subset=subset).faces.ids for part in ("train", "val", "test")]
        assert [len(ids) for ids in parts] == [5, 2, 1]
        assert len({id_ for ids in parts for id_ in ids}) == 8

    def test_one_part_alone(self, copied):
        root = copied("lapa")
        shutil.rmtree(root / "train")
        shutil.rmtree(root / "val")
        assert len(read("lapa", root, split="test").faces) == 2
        with pytest.raises(UserError, match=r"no usable sample in split 'train'"):
            read("lapa", root, split="train")
        shutil.rmtree(root / "test")
        with pytest.raises(UserError, match=r"expected LaPa's folders train/images, .* found none; set data.root"):
            read("lapa", root)

    def test_the_digest_is_of_all_three_files(self, written, copied):
        first = read("lapa", written["lapa"][0], split="test").digest
        root = copied("lapa")
        assert read("lapa", root, split="test").digest == first
        file = root / "test/landmarks/test_0.txt"
        file.write_text(file.read_text() + "\n")
        changed = read("lapa", root, split="test").digest
        file.unlink()
        assert len({first, changed, read("lapa", root, split="test").digest}) == 3

    def test_a_photo_without_landmarks_has_none(self, copied):
        root = copied("lapa")
        (root / "test/landmarks/test_0.txt").unlink()
        data = read("lapa", root, split="test")
        assert [s.landmarks is None for s in data.faces] == [True, False]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (f"{COUNT}\n" + "1 2\n" * 105, r"test_0.txt: expected 106 landmarks \(.*: 212 numbers\), got 210 numbers"),
            ("68\n" + "1 2\n" * 68, r"test_0.txt: expected a first line '106', got '68'; copy the file again"),
            ("", r"test_0.txt: expected a first line '106', got ''"),
            (f"{COUNT}\n" + "1 x\n" * 106, r"test_0.txt: expected numbers for landmarks \(.*'x'"),
            (f"{COUNT}\n" + "1 nan\n" * 106, r"test_0.txt: a landmark's place is not finite"),
            (b"\xff\xfe", r"test_0.txt: expected a text with landmarks, got other bytes"),
        ],
    )
    def test_landmark_files_that_are_none(self, copied, text, message):
        root = copied("lapa")
        file = root / "test/landmarks/test_0.txt"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(UserError, match=message):
            read("lapa", root, split="test")
        data = read("lapa", root, split="test", on_error="skip")
        assert (data.faces.ids, list(data.skipped), data.n_expected) == (["test_1"], ["test_0"], 2)

    def test_every_other_defect_is_named(self, copied, encode):
        root = copied("lapa")
        (root / "train/labels/train_0.png").unlink()
        (root / "train/images/train_1.jpg").unlink()
        (root / "train/images/train_2.jpg").write_bytes(b"no photo")
        (root / "train/labels/train_3.png").write_bytes(encode(np.full((96, 64), 11, np.uint8)))
        (root / "train/labels/train_4.png").write_bytes(encode(np.zeros((32, 32), np.uint8)))
        shutil.copy(root / "val/images/val_0.jpg", root / "train/images/val_0.jpg")
        with pytest.raises(UserError) as caught:
            read("lapa", root)
        for sentence in (
            "train/images/train_0.jpg: a photo without a label map",
            "train/labels/train_1.png: a label map without a photo",
            "train/images/train_2.jpg: not a readable image",
            "label values 11 lie outside space 'lapa' (0..10)",
            "train/labels/train_4.png: the label map is 32x32 px, its photo 64x96",
            "id 'val_0' occurs 2 times: train/images/val_0.jpg, val/images/val_0.jpg; rename all but one",
        ):
            assert sentence in str(caught.value)
        assert str(caught.value).startswith("6 of the samples")

    def test_photos_alone(self, copied):
        root = copied("lapa")
        shutil.rmtree(root / "test/labels")
        data = open_data(settings("lapa", root, split="test"), labels_needed=False)
        assert [s.labels for s in data.faces] == [None, None]


class TestHelen:
    def test_photos_are_cropped_about_their_landmarks(self, written):
        root, samples = written["helen"]
        data = read("helen", root)
        assert data.faces.ids == sorted(s.id for s in samples)
        for sample, found in zip(sorted(samples, key=lambda s: s.id), data.faces, strict=True):
            face = np.argwhere(sample.labels > 0)[:, ::-1]
            extent = face.max(0) - face.min(0) + 1
            side = int(1.2 * extent.max())
            left, top = (face.min(0) + extent / 2).astype(int) - side // 2
            rows = slice(max(top, 0), min(top + side, 96))
            columns = slice(max(left, 0), min(left + side, 64))
            assert np.array_equal(found.photo, sample.photo[rows, columns])
            assert np.array_equal(found.labels, sample.labels[rows, columns])
            expected = sample.landmarks - (columns.start, rows.start)
            np.testing.assert_allclose(found.landmarks, expected, rtol=0, atol=1e-4)

    def test_whole_photos(self, written):
        root, samples = written["helen"]
        data, cropped = read("helen", root, crop=False), read("helen", root)
        assert data.digest != cropped.digest
        for sample, found in zip(sorted(samples, key=lambda s: s.id), data.faces, strict=True):
            assert np.array_equal(found.photo, sample.photo)
            np.testing.assert_allclose(found.landmarks, sample.landmarks, rtol=0, atol=1e-4)

    def test_what_validates(self, tmp_path):
        root = tmp_path / "helen"
        write_helen(root, {"train": 12, "test": 2}, 32)
        held_out, rest = (read("helen", root, split=part).faces.ids for part in ("val", "train"))
        everything = sorted(held_out + rest)
        assert held_out == everything[::10]
        assert len(everything) == 12
        as_published = [read("helen", root, split=part, val="test").faces.ids for part in ("train", "val", "test")]
        assert as_published[0] == everything
        assert as_published[1] == as_published[2] == ["test_0", "test_1"]

    def test_one_list_for_both_parts_with_whole_file_names(self, written, copied):
        root = copied("helen")
        lists = [root / part / "landmarks.txt" for part in ("train", "test")]
        text = "".join(f.read_text() for f in lists)
        ids = [line.split()[-1] for line in text.splitlines()]
        for id_ in ids:
            text = text.replace(f" {id_}\n", f" {id_}_image.jpg\n")
        for file in lists:
            file.unlink()
        (root / "landmarks.txt").write_text(text)
        for a, b in zip(read("helen", written["helen"][0]).faces, read("helen", root).faces, strict=True):
            assert np.array_equal(a.photo, b.photo)

    def test_lines_that_are_none(self, copied):
        root = copied("helen")
        file = root / "test/landmarks.txt"
        first, second = file.read_text().splitlines()
        file.write_text(f"{first.partition(' ')[2]}\n{second.replace(' test_1', ' test_7')}\n")
        with pytest.raises(UserError) as caught:
            read("helen", root, split="test")
        assert "test/landmarks.txt, line 1: expected 68 landmarks" in str(caught.value)
        assert "test/test_1_image.jpg: no line of landmarks.txt is about 'test_1'" in str(caught.value)
        assert len(read("helen", root, split="test", crop=False, on_error="skip").faces) == 1

    def test_no_layout(self, tmp_path):
        with pytest.raises(UserError, match=r"expected Helen's folders train and test .* found none"):
            index_helen(tmp_path)
        with pytest.raises(UserError, match="found none"):
            index_lapa(tmp_path)

    def test_crops_are_cut_off_and_never_empty(self):
        points = np.tile([[10.0, 10.0], [29.0, 29.0]], (34, 1))
        assert crop_box(points, 100, 100) == (slice(8, 32), slice(8, 32))
        assert crop_box(points - 12, 100, 100) == (slice(0, 20), slice(0, 20))
        assert crop_box(points, 25, 100) == (slice(8, 25), slice(8, 32))
        with pytest.raises(ValueError, match="landmarks lie outside the photo of 100x100 px"):
            crop_box(points + 500, 100, 100)


def test_landmarks_need_their_count():
    with pytest.raises(UserError, match="f: expected 2 landmarks"):
        points_of(["1"] * 5, 2, "f")
    assert points_of("1 2 3 4".split(), 2, "f").tolist() == [[1, 2], [3, 4]]


class TestRelabelled:
    def test_labels_keep_their_names(self, toy_samples):
        class Faces(list):
            label_space, ids = CELEBAMASK, ["a", "b"]

        faces = Faces(toy_samples(2))
        other = Relabelled(faces, SPACES["segface"])
        names, others = (np.array(s.classes) for s in (CELEBAMASK, SPACES["segface"]))
        for a, b in zip(faces, other, strict=True):
            assert np.array_equal(names[a.labels], others[b.labels])
            assert np.array_equal(a.photo, b.photo)
        assert (len(other), other.ids, other.label_space) == (2, ["a", "b"], SPACES["segface"])

    def test_eleven_classes_become_nineteen_and_not_the_other_way(self, written):
        faces = read("lapa", written["lapa"][0], split="test").faces
        names, others = (np.array(s.classes) for s in (SPACES["lapa"], CELEBAMASK))
        found = Relabelled(faces, CELEBAMASK)[0]
        assert np.array_equal(names[faces[0].labels], others[found.labels])
        assert found.landmarks is not None
        with pytest.raises(UserError, match=r"'celebamask' cannot be converted to 'lapa', which lacks eye_g"):
            Relabelled(type("F", (list,), {"label_space": CELEBAMASK, "ids": []})(), SPACES["lapa"])

"""Folders and shards: the same samples from both, and every defect found before the work begins."""

import shutil

import numpy as np
import pytest
from PIL import Image

from semfacediff.data.files import Entry, FileFaces, select
from semfacediff.data.folder import index_folder
from semfacediff.data.reading import Blob
from semfacediff.data.shards import index_shards
from semfacediff.data.splits import SplitRule
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES


def folder_index(root, labels_needed=True):
    return index_folder(root, "images", "masks", labels_needed)


def shards_index(root, labels_needed=True):
    return index_shards(root, "*.tar", labels_needed)


def faces_of(index, **options):
    return FileFaces(index.entries, CELEBAMASK, **options)


def inspected(faces):
    return faces.inspect(lambda: None)


@pytest.fixture
def folder(toy_folder):
    return toy_folder(3)


@pytest.mark.parametrize("kind", ["folder", "shards"])
class TestBothKinds:
    @pytest.fixture
    def index(self, kind, toy_folder, toy_shards):
        def make(n, labels_needed=True):
            root = toy_folder(n) if kind == "folder" else toy_shards(n, per_shard=2)
            return (folder_index if kind == "folder" else shards_index)(root, labels_needed)

        return make

    def test_samples_come_back_in_order_of_their_ids(self, index, toy_samples):
        found = index(5)
        faces = faces_of(found)
        assert not found.bad
        assert faces.ids == ["00000", "00001", "00002", "00003", "00004"]
        assert len(faces) == 5
        for i, wanted in enumerate(toy_samples(5)):
            assert faces[i].id == wanted.id
            assert np.array_equal(faces[i].photo, wanted.photo)
            assert np.array_equal(faces[i].labels, wanted.labels)

    def test_label_maps_are_not_touched_where_they_are_not_needed(self, index):
        faces = faces_of(index(2, labels_needed=False))
        assert faces.ids == ["00000", "00001"]
        assert faces[0].labels is None

    def test_whole_data_have_no_defects_and_a_digest_of_their_own(self, index):
        found = index(3)
        digest, bad = inspected(faces_of(found))
        assert bad == {}
        assert len(digest) == 64
        assert inspected(faces_of(found))[0] == digest
        assert inspected(FileFaces(found.entries[:2], CELEBAMASK))[0] != digest
        assert inspected(FileFaces(found.entries, SPACES["segface"]))[0] != digest

    def test_progress_is_told_once_a_sample(self, index):
        calls = []
        faces_of(index(3)).inspect(lambda: calls.append(1))
        assert len(calls) == 3


def test_the_digest_is_of_contents_and_not_of_places(toy_folder, tmp_path):
    root = toy_folder(2)
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    (elsewhere / "images" / "00000.png").rename(elsewhere / "images" / "00000.PNG")
    digest, _ = inspected(faces_of(folder_index(root)))
    assert inspected(faces_of(folder_index(elsewhere)))[0] == digest
    (elsewhere / "masks" / "00001.png").write_bytes((root / "masks" / "00000.png").read_bytes())
    assert inspected(faces_of(folder_index(elsewhere)))[0] != digest


class TestFolder:
    def test_hidden_and_foreign_files_are_passed_over(self, folder):
        (folder / "images" / ".DS_Store.png").write_bytes(b"x")
        (folder / "images" / "notes.txt").write_text("x")
        (folder / "masks" / "notes.txt").write_text("x")
        assert [e.id for e in folder_index(folder).entries] == ["00000", "00001", "00002"]
        assert not folder_index(folder).bad

    def test_masks_may_be_absent_where_only_photos_are_needed(self, toy_folder):
        root = toy_folder(2, masks=False)
        assert len(folder_index(root, labels_needed=False).entries) == 2
        with pytest.raises(UserError, match=r"^data.masks: expected a folder at .*masks, found none; this run needs"):
            folder_index(root)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(
            UserError, match=r"data.root: expected a folder at .*none, found none; set data.root=DIR or"
        ):
            folder_index(tmp_path / "none")
        with pytest.raises(UserError, match=r"^data.images: .*found none; 'images' is looked for under data.root; set"):
            folder_index(tmp_path)
        (tmp_path / "images").mkdir()
        with pytest.raises(UserError, match=r"^data.images: no photo \(\.jpg, \.jpeg, \.png, .*\) in "):
            folder_index(tmp_path, labels_needed=False)

    def test_a_photo_without_a_label_map_and_the_reverse(self, folder):
        (folder / "masks" / "00000.png").unlink()
        (folder / "images" / "00002.png").unlink()
        index = folder_index(folder)
        assert [e.id for e in index.entries] == ["00001"]
        assert index.bad == {
            "00000": "images/00000.png: a photo without a label map",
            "00002": "masks/00002.png: a label map without a photo",
        }

    def test_two_photos_of_one_id(self, folder, encode, toy_samples):
        (folder / "images" / "00001.jpg").write_bytes(encode(toy_samples(1)[0].photo, "jpeg"))
        index = folder_index(folder)
        assert [e.id for e in index.entries] == ["00000", "00002"]
        assert index.bad == {"00001": "id '00001' occurs 2 times: images/00001.jpg, images/00001.png"}


class TestSamples:
    def test_a_label_map_of_another_aspect_ratio(self, folder, encode, toy_samples):
        small = np.asarray(Image.fromarray(toy_samples(1)[0].labels).resize((32, 16), Image.Resampling.NEAREST))
        (folder / "masks" / "00000.png").write_bytes(encode(small))
        index = folder_index(folder)
        with pytest.raises(
            UserError,
            match=r"^masks/00000.png: the label map is 32x16 px, its photo 64x64, which is another aspect ratio; set "
            r"data.allow_mask_resize=true if the two show the same frame$",
        ):
            faces_of(index)[0]
        allowed = faces_of(index, allow_mask_resize=True)[0]
        assert allowed.photo.shape == (64, 64, 3)
        assert np.array_equal(allowed.labels, small.repeat(4, 0).repeat(2, 1))

    @pytest.mark.parametrize("side", [32, 128])
    def test_a_label_map_of_another_size_stays_as_it_is(self, folder, encode, toy_samples, side):
        labels = toy_samples(1, side)[0].labels
        (folder / "masks" / "00000.png").write_bytes(encode(labels))
        sample = faces_of(folder_index(folder))[0]
        assert sample.photo.shape == (64, 64, 3)
        assert np.array_equal(sample.labels, labels)

    def test_every_defect_is_found_in_one_pass(self, toy_folder, encode, toy_samples):
        root = toy_folder(8)
        photo, labels = toy_samples(1)[0].photo, toy_samples(1)[0].labels
        whole = encode(photo, "png")
        (root / "images" / "00000.png").write_bytes(b"")
        (root / "images" / "00001.png").write_bytes(whole[: len(whole) // 2])
        (root / "images" / "00002.png").write_bytes(b"no image")
        (root / "images" / "00003.png").write_bytes(encode(photo[:1, :1]))
        (root / "masks" / "00004.png").write_bytes(encode(photo))
        (root / "masks" / "00005.png").write_bytes(encode(np.full_like(labels, 19)))
        (root / "masks" / "00006.png").write_bytes(encode(labels)[:60])
        _, bad = inspected(faces_of(folder_index(root)))
        assert list(bad) == [f"0000{i}" for i in range(7)]
        assert all(i in reason and "png: " in reason for i, reason in bad.items())

    def test_keep_restricts_and_keeps_the_settings(self, folder):
        faces = faces_of(folder_index(folder), allow_mask_resize=True)
        kept = faces.keep(faces.entries[1:])
        assert kept.ids == ["00001", "00002"]
        assert kept.allow_mask_resize
        assert kept.label_space is CELEBAMASK


class TestShards:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(UserError, match=r"data.root: expected a folder at .*none, found none"):
            shards_index(tmp_path / "none")
        with pytest.raises(UserError, match=r"^data.shards: no file matches '\*.tar' in "):
            shards_index(tmp_path)

    def test_a_lone_png_is_the_photo_where_no_label_maps_are_needed(self, tmp_path, make_tar, encode, toy_samples):
        make_tar(tmp_path / "a.tar", {"7.png": encode(toy_samples(1)[0].photo)})
        assert np.array_equal(faces_of(shards_index(tmp_path, labels_needed=False))[0].photo, toy_samples(1)[0].photo)
        assert shards_index(tmp_path).bad == {"7": "a.tar:7.png: a label map without a photo"}

    def test_other_members_are_passed_over(self, tmp_path, make_tar, encode, toy_samples):
        sample = toy_samples(1)[0]
        members = {"7.json": b"{}", "7.jpg": encode(sample.photo, "jpeg"), "7.png": encode(sample.labels)}
        make_tar(tmp_path / "a.tar", members)
        faces = faces_of(shards_index(tmp_path))
        assert faces.ids == ["7"]
        assert np.array_equal(faces[0].labels, sample.labels)

    def test_one_id_in_two_shards(self, toy_shards):
        root = toy_shards(2)
        shutil.copy(root / "toy-00000.tar", root / "toy-00001.tar")
        index = shards_index(root)
        assert index.entries == ()
        assert index.bad["00001"] == "id '00001' occurs 2 times: toy-00000.tar:00001.webp, toy-00001.tar:00001.webp"

    def test_the_shard_is_known_to_the_split_rule(self, toy_shards):
        index = shards_index(toy_shards(6, per_shard=2))
        assert [e.shard for e in index.entries[::2]] == ["toy-00000", "toy-00001", "toy-00002"]
        rule = SplitRule(by="shard", modulo=100, val=(1,))
        assert [e.id for e in select(index.entries, rule, "val", None)] == ["00002", "00003"]

    def test_no_tar(self, toy_shards):
        root = toy_shards(2)
        (root / "x.tar").write_bytes(b"<html>not found</html>" * 100)
        (root / "y.tar").write_bytes(b"")
        index = shards_index(root)
        assert [e.id for e in index.entries] == ["00000", "00001"]
        assert list(index.bad) == ["x.tar", "y.tar"]
        assert all(f"{name}: not a whole tar (" in text for name, text in index.bad.items())
        assert "copy the shard again" in index.bad["x.tar"]

    def test_wherever_a_tar_breaks_off_it_is_noticed(self, toy_shards):
        """tarfile itself takes a cut between two members for a proper end, and loses the rest silently."""
        root = toy_shards(3)
        shard = root / "toy-00000.tar"
        whole = shard.read_bytes()
        offsets = [e.photo.offset for e in shards_index(root).entries]
        headers = [o - 512 for o in offsets[1:]]  # exactly between two members
        for cut in (100, 600, *headers, headers[0] + 200, offsets[1], offsets[2] + 10):
            shard.write_bytes(whole[:cut])
            index = shards_index(root)
            assert "toy-00000.tar: not a whole tar (" in index.bad["toy-00000.tar"], cut
            digest_of_rest, _ = inspected(faces_of(index))
            assert digest_of_rest

    def test_what_lies_before_the_break_can_still_be_used(self, toy_shards, toy_samples):
        root = toy_shards(3)
        shard = root / "toy-00000.tar"
        last = shards_index(root).entries[2]
        shard.write_bytes(shard.read_bytes()[: last.labels.offset + 20])
        index = shards_index(root)
        faces = faces_of(index)
        _, bad = inspected(faces)
        assert list(index.bad) == ["toy-00000.tar"]
        assert list(bad) == ["00002"]
        assert "toy-00000.tar:00002.png: the archive ends after 20 of" in bad["00002"]
        assert np.array_equal(faces[1].labels, toy_samples(3)[1].labels)

    def test_a_damaged_header_in_the_middle_is_noticed(self, toy_shards):
        root = toy_shards(3)
        shard = root / "toy-00000.tar"
        at = shards_index(root).entries[1].photo.offset - 512
        damaged = bytearray(shard.read_bytes())
        damaged[at + 148 : at + 156] = b"\xff" * 8  # the header's checksum
        shard.write_bytes(damaged)
        assert shards_index(root).bad["toy-00000.tar"] == (
            "toy-00000.tar: not a whole tar (it breaks off after 2 files); copy the shard again"
        )


class TestSelect:
    @pytest.fixture
    def entries(self, tmp_path):
        return [Entry(f"{i:05d}", Blob(tmp_path, "")) for i in (30, 5, 10, 21, 20, 0)]

    def test_the_first_n_by_sorted_name(self, entries):
        assert [e.id for e in select(entries, SplitRule(), "all", 3)] == ["00000", "00005", "00010"]

    def test_n_counts_within_the_split(self, entries):
        assert [e.id for e in select(entries, SplitRule(), "val", 2)] == ["00000", "00010"]
        assert [e.id for e in select(entries, SplitRule(), "train", 5)] == ["00005", "00021"]

    def test_names_without_a_number_need_no_rule_where_all_are_taken(self, tmp_path):
        entries = [Entry("anna", Blob(tmp_path, "")), Entry("berta", Blob(tmp_path, ""))]
        assert len(select(entries, SplitRule(), "all", None)) == 2
        with pytest.raises(UserError, match=r"needs names that end in a number, got 'anna'"):
            select(entries, SplitRule(), "val", None)

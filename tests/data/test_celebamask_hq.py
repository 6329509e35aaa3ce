"""The official layout: splits, annotations and paint orders from a drawn miniature, and every way it can be odd."""

import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from semfacediff import config, hydra_app
from semfacediff.data.celebamask_layout import index_official, paint_order, read_mapping, read_partition
from semfacediff.data.opening import open_data
from semfacediff.data.toy_official import GROUPS, write_official, write_part
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES

NUMBERS = [*range(10), 1999, 2000]
MAPPING, PARTITION = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """(root, samples drawn) of an untouched miniature."""
    root = tmp_path_factory.mktemp("official") / "root"
    return root, write_official(root, NUMBERS)


@pytest.fixture
def root(drawn, tmp_path):
    """A copy to damage."""
    return shutil.copytree(drawn[0], tmp_path / "root")


def data(root, *, split="all", n=None, order="official", on_error="error", resize=False, **options):
    """Built from the typed settings, as a run builds it."""
    plain = {"root": str(root), "split": split, "n": n, "paint_order": order, "on_error": on_error}
    settings = config.CelebAMaskHQData(name="celebamask_hq", subset=None, allow_mask_resize=resize, **plain)
    return open_data(settings, **options)


def square(top, left, side=8, size=32):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


class TestReading:
    def test_labels_are_what_was_drawn_and_keep_their_size(self, drawn):
        root, samples = drawn
        faces = data(root).faces
        assert faces.ids == sorted(str(n) for n in NUMBERS)
        assert faces.label_space is CELEBAMASK
        for k, number in enumerate(NUMBERS):
            sample = faces[faces.ids.index(str(number))]
            assert sample.photo.shape == (64, 64, 3)
            assert sample.labels.dtype == np.uint8
            assert np.array_equal(sample.labels, samples[k].labels)

    @pytest.mark.parametrize("split", ["train", "val", "test"])
    def test_splits_go_through_the_mapping(self, drawn, split):
        wanted = [str(n) for k, n in enumerate(NUMBERS) if GROUPS[k % 10] == ("train", "val", "test").index(split)]
        assert data(drawn[0], split=split).faces.ids == sorted(wanted)
        cfg = hydra_app.composed("evaluate", ["data=celebamask_hq", f"data.root={drawn[0]}"], config.repository())
        settings = config.typed(cfg, config.EditingEvaluation).data
        assert open_data(settings, split=split).faces.ids == sorted(wanted)

    def test_the_first_n_and_the_limit(self, drawn):
        assert data(drawn[0], n=3).faces.ids == ["0", "1", "1999"]
        assert data(drawn[0], n=3, limit=2).faces.ids == ["0", "1"]

    def test_annotations(self, drawn):
        faces = data(drawn[0]).faces
        wanted = {"Eyeglasses": True, "Smiling": False, "yaw": 3.5, "pitch": -3.25, "roll": 0.0}
        assert faces[faces.ids.index("3")].attributes == wanted
        assert faces[faces.ids.index("4")].attributes["Eyeglasses"] is False

    def test_a_photo_beyond_the_annotation_has_none_and_is_told(self, drawn):
        index = index_official(drawn[0])
        assert index.unannotated == ("2000",)
        assert {e.id: e for e in index.entries}["2000"].attributes == {}

    def test_annotation_files_may_be_absent(self, root):
        for name in ("CelebAMask-HQ-attribute-anno.txt", "CelebAMask-HQ-pose-anno.txt"):
            (root / name).unlink()
        index = index_official(root)
        assert index.unannotated == ()
        assert all(e.attributes == {} for e in index.entries)

    def test_photos_alone_need_no_part_masks(self, root):
        shutil.rmtree(root / "CelebAMask-HQ-mask-anno")
        assert data(root, labels_needed=False).faces[0].labels is None
        with pytest.raises(UserError, match=r"^part masks: expected the folder .*CelebAMask-HQ-mask-anno"):
            data(root)

    def test_no_official_layout(self, tmp_path):
        with pytest.raises(UserError, match=r"^photos: expected the folder .* of the official layout, found none"):
            data(tmp_path)
        (tmp_path / "CelebA-HQ-img").mkdir()
        with pytest.raises(UserError, match=r"^photos: no <number>.jpg in "):
            data(tmp_path)


class TestPaintOrders:
    def test_the_same_parts_give_different_pixels(self, root):
        write_part(root, 0, "neck", square(0, 0))
        write_part(root, 0, "skin", square(0, 4))
        write_part(root, 0, "hair", square(4, 0))
        write_part(root, 0, "cloth", square(4, 4))
        official = data(root, n=1).faces[0].labels
        segface = data(root, n=1, order="segface").faces[0].labels
        of = CELEBAMASK.index
        assert (official[1, 5], official[5, 5], official[6, 2]) == (of("neck"), of("cloth"), of("neck"))
        assert (segface[1, 5], segface[5, 5], segface[6, 2]) == (of("skin"), of("hair"), of("hair"))

    def test_they_are_the_label_spaces_own(self):
        assert paint_order("official") == CELEBAMASK.paint_order
        assert paint_order("segface") == SPACES["segface"].paint_order
        assert paint_order("official")[-1] == "cloth"
        assert set(paint_order("segface")) == set(paint_order("official"))

    def test_the_order_is_part_of_the_digest(self, drawn):
        root, _ = drawn
        official, segface = data(root, n=2), data(root, n=2, order="segface")
        assert np.array_equal(official.faces[0].labels, segface.faces[0].labels)  # no two parts claim a pixel here
        assert official.digest != segface.digest
        assert data(root, n=2).digest == official.digest

    def test_a_part_file_more_is_another_digest(self, root):
        before = data(root, n=1).digest
        write_part(root, 0, "eye_g", np.zeros((32, 32), bool))
        assert data(root, n=1).digest != before


class TestOddParts:
    def test_a_missing_part_is_absent(self, root):
        part = next((root / "CelebAMask-HQ-mask-anno" / "0").glob("00000_skin.png"))
        part.unlink()
        assert CELEBAMASK.index("skin") not in data(root, n=1).faces[0].labels

    def test_a_photo_without_any_part(self, root):
        for part in (root / "CelebAMask-HQ-mask-anno" / "0").glob("00000_*.png"):
            part.unlink()
        with pytest.raises(UserError, match=r"\n  CelebA-HQ-img/0.jpg: a photo without a part mask$"):
            data(root)
        left = data(root, on_error="skip")
        assert left.skipped == {"0": "CelebA-HQ-img/0.jpg: a photo without a part mask"}
        assert len(left.faces) == len(NUMBERS) - 1

    def test_a_part_of_another_size_is_named(self, root):
        write_part(root, 0, "hat", square(0, 0, 8, 16))
        with pytest.raises(
            UserError,
            match=r"00000_hat.png: the part mask is 16x16 px, the others of its photo 32x32; fix the",
        ):
            data(root)
        labels = data(root, n=1, resize=True).faces[0].labels
        assert (labels[:4, :4] == CELEBAMASK.index("hat")).all()
        assert labels.shape == (32, 32)

    def test_masks_of_another_shape_than_the_photo(self, root):
        Image.new("RGB", (64, 48)).save(root / "CelebA-HQ-img" / "0.jpg")
        with pytest.raises(
            UserError, match=r"CelebA-HQ-img/0.jpg: the label map is 32x32 px, its photo 64x48, which is"
        ):
            data(root)
        assert data(root, n=1, resize=True).faces[0].labels.shape == (48, 64)

    def test_grey_values_count_as_the_part(self, root):
        image = np.zeros((32, 32), np.uint8)
        image[0, :3] = 1, 127, 255
        write_part(root, 0, "cloth", Image.fromarray(image))
        assert data(root, n=1).faces[0].labels[0, :4].tolist()[:3] == [CELEBAMASK.index("cloth")] * 3

    def test_a_truncated_part(self, root):
        file = root / "CelebAMask-HQ-mask-anno" / "0" / "00000_skin.png"
        file.write_bytes(file.read_bytes()[:60])
        with pytest.raises(UserError, match=r"mask-anno/0/00000_skin.png: the image is truncated or corrupt"):
            data(root)

    def test_files_that_belong_nowhere_are_passed_over_and_told(self, root):
        write_part(root, 0, "beard", square(0, 0))
        write_part(root, 1, "skin", square(0, 0)).rename(root / "CelebAMask-HQ-mask-anno" / "1" / "00001_skin.png")
        write_part(root, 77, "skin", square(0, 0))
        (root / "CelebAMask-HQ-mask-anno" / "0" / "1_hair.png").write_bytes(b"")
        (root / "CelebA-HQ-img" / "cover.jpg").write_bytes(b"")
        (root / "CelebAMask-HQ-mask-anno" / ".DS_Store").mkdir()
        assert sorted(index_official(root).odd) == [
            "CelebA-HQ-img/cover.jpg: expected <number>.jpg; passed over",
            "CelebAMask-HQ-mask-anno/0/00000_beard.png: unknown part 'beard'; passed over",
            "CelebAMask-HQ-mask-anno/0/00077_skin.png: a part mask without a photo 77.jpg; passed over",
            "CelebAMask-HQ-mask-anno/0/1_hair.png: expected <five digits>_<part>.png; passed over",
            "CelebAMask-HQ-mask-anno/1/00001_skin.png: part masks of photo 1 belong into folder 0; passed over",
        ]

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("0/00001_Hair.png", "unknown part 'Hair'"),
            ("0/1_hair.png", "expected <five digits>_<part>.png"),
            ("0/00001-hair.PNG", "expected <five digits>_<part>.png"),
            ("1/00001_hair.png", "part masks of photo 1 belong into folder 0"),
            ("00001_hair.png", "expected folders named 0, 1, 2 ..."),
        ],
    )
    def test_a_part_under_another_name_is_no_silent_loss(self, root, name, fault):
        masks = root / "CelebAMask-HQ-mask-anno"
        (masks / "0" / "00001_hair.png").rename(masks / name)
        sentence = f"CelebAMask-HQ-mask-anno/{name}: {fault}; rename or remove it"
        with pytest.raises(UserError, match=f"\n  {re.escape(sentence)}$"):
            data(root)
        assert data(root, on_error="skip").skipped == {"1": sentence}
        assert data(root, n=1).faces.ids == ["0"]  # a photo that is not selected
        assert "1" in data(root, labels_needed=False).faces.ids

    def test_odd_files_of_no_photo_harm_none(self, root):
        for name in ("15.zip", "Thumbs.db", "._00001_hair.png"):
            (root / "CelebAMask-HQ-mask-anno" / "0" / name).write_bytes(b"")
        assert len(data(root).faces) == len(NUMBERS)


class TestLists:
    def test_a_mapping_with_its_header_or_without(self, tmp_path):
        rows = "0           119613      119613.jpg\n1 99094 099094.jpg\n"
        for text in (rows, "idx         orig_idx    orig_file\n" + rows, "\ufeff" + rows + "\n\n"):
            (tmp_path / "m").write_text(text)
            assert read_mapping(tmp_path / "m") == {0: "119613", 1: "099094"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("0 1 a.jpg\n1 2\n", r"^m, line 2: expected 'idx orig_idx orig_file', got '1 2'; copy it again$"),
            ("0 1 a.jpg\nx 1 a.jpg\n", r"^m, line 2: expected 'idx orig_idx orig_file', got 'x 1 a.jpg'"),
            ("0 1 a.jpg\n0 2 b.jpg\n", r"^m, line 2: photo 0 occurs twice, first in m, line 1; copy the file again$"),
        ],
    )
    def test_a_broken_mapping(self, tmp_path, text, message):
        (tmp_path / "m").write_text(text)
        with pytest.raises(UserError, match=message):
            read_mapping(tmp_path / "m")

    def test_the_partition(self, tmp_path):
        for header in ("", "image_id,partition\n"):
            (tmp_path / "p").write_text(header + "000001.jpg 0\n000002.jpg,1\n000003.jpg 2\n")
            assert read_partition(tmp_path / "p") == {"000001": "train", "000002": "val", "000003": "test"}

    @pytest.mark.parametrize("line", ["000001.jpg 3", "000001.jpg", "000001.jpg 0 0"])
    def test_a_broken_partition(self, tmp_path, line):
        (tmp_path / "p").write_text(f"000000.jpg 0\n{line}\n")
        with pytest.raises(UserError, match=r"^p, line 2: expected 'orig_file 0\|1\|2', got '000001.jpg"):
            read_partition(tmp_path / "p")

    def test_an_original_in_two_parts(self, tmp_path):
        """It would be trained on and tested with; the same line twice only says it twice."""
        (tmp_path / "p").write_text("000001.jpg 0\n000002.jpg 1\n000001.jpg 0\n")
        assert read_partition(tmp_path / "p") == {"000001": "train", "000002": "val"}
        (tmp_path / "p").write_text("000001.jpg 0\n000002.jpg 1\n000001.jpg 2\n")
        told = r"^p, line 3: 000001.jpg is put into test, but into train by p, line 1; remove one of the two lines, or"
        with pytest.raises(UserError, match=told):
            read_partition(tmp_path / "p")

    def test_binary_lists(self, tmp_path):
        (tmp_path / "p").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match=r"p: cannot be read \(it is no text\); copy the official file there$"):
            read_partition(tmp_path / "p")

    def test_without_lists_every_photo_is_there_and_no_split_is(self, root):
        (root / MAPPING).unlink()
        assert len(data(root).faces) == len(NUMBERS)
        with pytest.raises(UserError, match=rf"^data.split=test: .* \({MAPPING} not in .*\); copy the official lists"):
            data(root, split="test")

    def test_a_photo_that_is_not_in_the_mapping(self, root):
        lines = (root / MAPPING).read_text().splitlines()
        (root / MAPPING).write_text("\n".join(lines[:-1]))
        with pytest.raises(UserError, match=rf"2000.jpg: no split is known \(photo 2000 is not in {MAPPING}\)"):
            data(root, split="train")
        assert "2000" in data(root, split="train", on_error="skip").skipped
        assert "2000" in data(root).faces.ids

    def test_an_original_that_is_not_in_the_partition(self, root):
        text = (root / PARTITION).read_text().replace("098000.jpg", "098888.jpg")
        (root / PARTITION).write_text(text)
        with pytest.raises(UserError, match=r"2000.jpg: no split is known \(its original 098000 is not in"):
            data(root, split="val")

    def test_a_broken_annotation(self, root):
        file = root / "CelebAMask-HQ-attribute-anno.txt"
        file.write_text(file.read_text().replace("0.jpg  -1 -1", "0.jpg  -1 yes"))
        with pytest.raises(UserError, match=r"anno.txt, line 3: expected a photo and 2 values, got '0.jpg -1 yes'"):
            data(root)


def test_pngs_of_the_miniature_are_like_the_official_ones(drawn):
    part = next((drawn[0] / "CelebAMask-HQ-mask-anno" / "1").glob("02000_*.png"))
    assert Image.open(io.BytesIO(part.read_bytes())).mode == "RGB"

"""``semfacediff parse``: label maps, coverage, confidence and overlays of any photo, and one sentence for a mistake."""

import json
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from semfacediff import cli
from semfacediff.data.reading import decode_labels
from semfacediff.data.square import to_square
from semfacediff.labels import CELEBAMASK, SPACES, conversion, palette
from semfacediff.parsing import ModelParser, any_photo, load_parser
from semfacediff.parsing.any_photo import parse_any
from semfacediff.tables.figures import overlay
from semfacediff.types import to_tensor


@pytest.fixture(scope="module")
def parser(tiny_checkpoint):
    return ModelParser(*load_parser(tiny_checkpoint), torch.device("cpu"))


@pytest.fixture
def photos(tmp_path, encode, toy_samples):
    """A folder of three photos of three shapes."""
    root = tmp_path / "photos"
    root.mkdir()
    drawn = [s.photo for s in toy_samples(3, 64)]
    (root / "a.png").write_bytes(encode(drawn[0]))
    (root / "b.webp").write_bytes(encode(np.ascontiguousarray(drawn[1][:40]), "webp", lossless=True))
    (root / "c.gif").write_bytes(encode(np.ascontiguousarray(drawn[2][:, :50]), "gif"))
    (root / "notes.txt").write_text("x")
    return root


def run(photo, out, checkpoint, *more):
    return cli.main(["parse", str(photo), "--out", str(out), "--checkpoint", str(checkpoint), "--device", "cpu", *more])


class TestParsing:
    def test_a_square_photo_is_parsed_as_in_an_evaluation(self, parser, toy_samples):
        photo = toy_samples(1, 64)[0].photo
        wanted = parser.predict(to_tensor(photo)[None])[0].numpy()
        assert np.array_equal(parse_any(parser, photo).labels, wanted)

    @pytest.mark.parametrize("strip", [1, 10**9])
    @pytest.mark.parametrize("shape", [(100, 90), (40, 64), (300, 33)])
    def test_logits_are_cut_out_of_the_square_and_enlarged(self, parser, toy_samples, shape, strip, monkeypatch):
        monkeypatch.setattr(any_photo, "_STRIP_VALUES", strip)
        photo = np.asarray(Image.fromarray(toy_samples(1, 64)[0].photo).resize(shape[::-1]))
        square, place = to_square(photo, 64)
        logits = parser.logits(to_tensor(square)[None])[..., *place.box]
        logits = F.interpolate(logits, shape, mode="bilinear", align_corners=False)[0]
        certain = logits.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-4
        parsed = parse_any(parser, photo)
        assert parsed.labels.shape == shape
        assert np.array_equal(parsed.labels[certain], logits.argmax(0)[certain])
        assert parsed.pixels.tolist() == np.bincount(parsed.labels.ravel(), minlength=19).tolist()
        highest = logits.double().softmax(0).max(0).values.numpy()
        assert parsed.overall == pytest.approx(highest.mean(), abs=1e-5)
        for k in np.unique(parsed.labels):
            assert parsed.confidence[k] == pytest.approx(highest[parsed.labels == k].mean(), abs=1e-3)


class TestFolder:
    def test_everything_is_written(self, photos, tmp_path, tiny_checkpoint, parser, capsys):
        out = tmp_path / "out"
        assert run(photos, out, tiny_checkpoint, "--overlay") == 0
        assert sorted(p.name for p in out.iterdir()) == [
            *("a.json", "a.png", "b.json", "b.png", "c.json", "c.png", "overlays", "parse_report.json")
        ]
        assert sorted(p.name for p in (out / "overlays").iterdir()) == ["a.png", "b.png", "c.png"]
        shown = capsys.readouterr()
        assert shown.out == f"parsed 3 of 3 photos into {out}\n"
        assert shown.err == "", "bars are for terminals"
        for name, file in (("a", "a.png"), ("b", "b.webp"), ("c", "c.gif")):
            photo = np.asarray(Image.open(photos / file).convert("RGB"))
            labels = parse_any(parser, photo).labels
            image = Image.open(out / f"{name}.png")
            assert image.mode == "P"
            assert image.getpalette()[:57] == palette(CELEBAMASK).ravel().tolist()
            assert np.array_equal(decode_labels((out / f"{name}.png").read_bytes(), name, CELEBAMASK), labels)
            picture = np.asarray(Image.open(out / "overlays" / f"{name}.png"))
            assert np.array_equal(picture, overlay(photo, labels, CELEBAMASK))

    def test_a_second_call_parses_what_is_missing_or_changed(self, photos, tmp_path, tiny_checkpoint, capsys):
        out = tmp_path / "out"
        assert run(photos, out, tiny_checkpoint) == 0
        (out / "a.json").unlink()
        (out / "b.png").unlink()
        before = (out / "c.json").stat().st_mtime_ns
        capsys.readouterr()
        assert run(photos, out, tiny_checkpoint) == 0
        assert f"parsed 3 of 3 photos into {out}, 1 of them by an earlier run" in capsys.readouterr().out
        assert (out / "c.json").stat().st_mtime_ns == before
        (photos / "c.gif").write_bytes((photos / "b.webp").read_bytes())
        assert run(photos, out, tiny_checkpoint) == 0
        assert "2 of them by an earlier run" in capsys.readouterr().out
        assert run(photos, out, tiny_checkpoint, "--overlay") == 0
        assert "earlier run" not in capsys.readouterr().out, "the overlays were missing"

    def test_the_json_tells_coverage_and_confidence(self, photos, tmp_path, tiny_checkpoint, parser):
        run(photos / "b.webp", tmp_path / "out", tiny_checkpoint)
        facts = json.loads((tmp_path / "out" / "b.json").read_text())
        parsed = parse_any(parser, np.asarray(Image.open(photos / "b.webp").convert("RGB")))
        assert (facts["photo"], facts["height"], facts["width"]) == ("b.webp", 40, 64)
        assert facts["label_space"] == "celebamask"
        assert facts["parser"]["name"] == "fastscnn_lite"
        assert len(facts["parser"]["digest"]) == 64
        assert facts["confidence"] == pytest.approx(parsed.overall)
        assert list(facts["classes"]) == list(CELEBAMASK.classes)
        assert sum(c["pixels"] for c in facts["classes"].values()) == 40 * 64
        assert sum(c["coverage"] for c in facts["classes"].values()) == pytest.approx(1)
        for k, name in enumerate(CELEBAMASK.classes):
            found = facts["classes"][name]
            assert found["coverage"] == (parsed.labels == k).mean()
            assert (found["confidence"] is None) == (found["pixels"] == 0)
            assert found["confidence"] is None or 1 / 19 <= found["confidence"] <= 1

    def test_another_label_space(self, photos, tmp_path, tiny_checkpoint, parser):
        segface = SPACES["segface"]
        run(photos / "a.png", tmp_path / "out", tiny_checkpoint, "--label-space", "segface")
        labels = parse_any(parser, np.asarray(Image.open(photos / "a.png"))).labels
        written = Image.open(tmp_path / "out" / "a.png")
        assert np.array_equal(np.asarray(written), conversion(CELEBAMASK, segface)[labels])
        assert written.getpalette()[:57] == palette(segface).ravel().tolist()
        facts = json.loads((tmp_path / "out" / "a.json").read_text())
        assert list(facts["classes"]) == list(segface.classes)
        assert facts["classes"]["hair"]["pixels"] == (labels == CELEBAMASK.index("hair")).sum()

    def test_bad_photos_are_reported_and_the_others_parsed(self, photos, tmp_path, tiny_checkpoint, capsys):
        (photos / "bad.jpg").write_bytes(b"<html>")
        (photos / "empty.png").write_bytes(b"")
        (photos / "a.jpg").write_bytes((photos / "a.png").read_bytes())
        assert run(photos, tmp_path / "out", tiny_checkpoint) == 1
        shown = capsys.readouterr()
        assert f"parsed 3 of 6 photos into {tmp_path / 'out'}" in shown.out
        assert "error: bad.jpg: not a readable image (expected JPEG, PNG, WebP, TIFF, BMP or GIF)" in shown.err
        report = json.loads((tmp_path / "out" / "parse_report.json").read_text())
        assert report["parsed"] == 3
        assert report["failed"] == {
            "a.png": "a.png: its label map would overwrite that of a.jpg; rename one of the two",
            "bad.jpg": "bad.jpg: not a readable image (expected JPEG, PNG, WebP, TIFF, BMP or GIF)",
            "empty.png": "empty.png: the file is empty",
        }
        assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png", "c.png"]

    def test_no_photo_shares_a_name_with_the_report(self, photos, tmp_path, tiny_checkpoint, capsys):
        for name in ("parse_report.png", "parse_report.webp"):
            (photos / name).write_bytes((photos / "a.png").read_bytes())
        assert run(photos, tmp_path / "out", tiny_checkpoint) == 1
        report = json.loads((tmp_path / "out" / "parse_report.json").read_text())
        assert (report["photos"], report["parsed"]) == (5, 3)
        assert set(report["failed"]) == {"parse_report.png", "parse_report.webp"}
        assert "parse_report.png: its result would be named parse_report.json, like" in capsys.readouterr().err
        assert not (tmp_path / "out" / "parse_report.png").exists()
        assert run(photos / "parse_report.png", tmp_path / "out", tiny_checkpoint) == 2
        assert json.loads((tmp_path / "out" / "parse_report.json").read_text()) == report


class TestMistakes:
    def sentence(self, capsys):
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
        return error[len("error: ") :].rstrip()

    def test_no_checkpoint(self, photos, tmp_path, capsys, nothing_ships):
        assert cli.main(["parse", str(photos), "--out", str(tmp_path / "out")]) == 2
        assert self.sentence(capsys).startswith(
            "no parser ships with this version; give --checkpoint RUN (a run of train"
        )

    def test_a_checkpoint_that_is_none(self, photos, tmp_path, capsys):
        assert run(photos, tmp_path / "out", tmp_path / "nothing") == 2
        assert self.sentence(capsys).startswith("parser.checkpoint: nothing is at ")
        assert not (tmp_path / "out").exists()

    def test_no_photo(self, tmp_path, tiny_checkpoint, capsys):
        assert run(tmp_path / "me.jpg", tmp_path / "out", tiny_checkpoint) == 2
        assert self.sentence(capsys).startswith("PHOTO: expected a photo or a folder of photos, nothing is at ")
        (tmp_path / "none").mkdir()
        assert run(tmp_path / "none", tmp_path / "out", tiny_checkpoint) == 2
        assert self.sentence(capsys).startswith("PHOTO: no photo (.jpg, ")

    def test_the_one_photo_is_bad(self, photos, tmp_path, tiny_checkpoint, capsys):
        (photos / "a.png").write_bytes((photos / "a.png").read_bytes()[:200])
        assert run(photos / "a.png", tmp_path / "out", tiny_checkpoint) == 2
        assert self.sentence(capsys).startswith("a.png: the image is truncated or corrupt (")

    def test_a_huge_photo(self, tmp_path, encode, tiny_checkpoint, capsys):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            (tmp_path / "a.png").write_bytes(encode(Image.new("1", (10_100, 10_000))))
            assert run(tmp_path / "a.png", tmp_path / "out", tiny_checkpoint) == 2
        assert self.sentence(capsys) == "a.png: 10100x10000 px is over the limit of 100000000 pixels; scale it down"

    def test_photos_are_never_overwritten(self, photos, tiny_checkpoint, capsys):
        before = (photos / "a.png").read_bytes()
        for source in (photos, photos / "a.png"):
            assert run(source, photos, tiny_checkpoint) == 2
            assert "is the folder of the photos" in self.sentence(capsys)
        assert (photos / "a.png").read_bytes() == before

    def test_a_space_that_lacks_classes(self, photos, tmp_path, tiny_checkpoint, capsys):
        assert run(photos, tmp_path / "out", tiny_checkpoint, "--label-space", "lapa") == 2
        assert self.sentence(capsys).startswith(
            "labels of space 'celebamask' cannot be converted to 'lapa', which lacks"
        )
        assert run(photos, tmp_path / "out", tiny_checkpoint, "--label-space", "mine") == 2
        assert self.sentence(capsys).startswith("unknown label space 'mine'; choose one of celebamask")

    def test_an_output_that_cannot_be_written(self, photos, tmp_path, tiny_checkpoint, capsys):
        (tmp_path / "out").write_text("a file in the way")
        assert run(photos, tmp_path / "out", tiny_checkpoint) == 2
        assert self.sentence(capsys).startswith(f"cannot write {tmp_path / 'out'} (")

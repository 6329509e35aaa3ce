"""Parse, edit and score arrays: light to import, without side effects, and the same numbers as a run."""

import os
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import semfacediff
from semfacediff import api as arrays
from semfacediff import config, tasks
from semfacediff.editing.base import Editor
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES, conversion
from semfacediff.metrics import set_scores
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.inception import FEATURES
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.set_scores import SetScores

HAIR = CELEBAMASK.index("hair")
CPU = torch.device("cpu")
SMALL = "ViT-S-32-alt"


@pytest.fixture
def face(toy_samples):
    return toy_samples(1, 96)[0]


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_the_import_is_light_and_prints_nothing():
    heavy = ("torch", "numpy", "cv2", "PIL", "pandas", "matplotlib", "pydantic", "hydra", "wandb")
    code = f"import semfacediff, sys; print(sorted(set(sys.modules) & set({heavy})), 'parse' in dir(semfacediff))"
    assert python(code).strip() == "[] True"


def test_five_lines_leave_no_trace(tmp_path, tiny_checkpoint, face, monkeypatch, capfd):
    def surroundings():
        generators = torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()
        return generators, os.getcwd(), signal.getsignal(signal.SIGINT), torch.is_grad_enabled(), face.photo.tobytes()

    monkeypatch.chdir(tmp_path)
    before = surroundings()
    labels = semfacediff.parse(face.photo, checkpoint=tiny_checkpoint, device="cpu")
    mask = semfacediff.region_mask(labels, "hair")
    edited = semfacediff.edit(face.photo, "hair", "copper red hair", labels=labels)
    scores = semfacediff.score(face.photo, edited, mask)
    assert set(scores) == {"ssim", "psnr_outside", "max_abs_outside"}
    assert surroundings() == before
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


class TestParse:
    def test_a_label_map_of_the_photos_size(self, tiny_checkpoint, face):
        wide = face.photo[20:71]
        labels = semfacediff.parse(wide, tiny_checkpoint, device="cpu")
        assert labels.dtype == np.uint8
        assert labels.shape == (51, 96)
        assert labels.max() < 19

    def test_another_space_names_the_same_classes(self, tiny_checkpoint, face):
        labels = semfacediff.parse(face.photo, tiny_checkpoint, device="cpu")
        other = semfacediff.parse(face.photo, str(tiny_checkpoint), label_space="segface", device="cpu")
        assert np.array_equal(other, conversion(CELEBAMASK, SPACES["segface"])[labels])

    def test_it_loads_once_and_notices_another_file(self, tiny_checkpoint, face, tmp_path, monkeypatch):
        from semfacediff import api as arrays
        from semfacediff.parsing import load_parser, save_parser

        folder = tmp_path / "parser"
        model, card = load_parser(tiny_checkpoint)
        save_parser(model, card, folder)
        before = semfacediff.parse(face.photo, folder, device="cpu")
        with monkeypatch.context() as m:
            m.setattr(arrays, "open_trained", None)
            assert np.array_equal(semfacediff.parse(face.photo, folder, device="cpu"), before)
        with torch.no_grad():
            model.classifier[3].bias[HAIR] += 1000
        save_parser(model, card, folder)
        assert (semfacediff.parse(face.photo, folder, device="cpu") == HAIR).all()

    @pytest.mark.parametrize(
        ("photo", "message"),
        [
            (np.zeros((8, 8, 3), np.float32), r"photo: expected a uint8 array \[H, W, 3\] \(RGB\), got float32 \[8, 8"),
            (np.zeros((8, 8), np.uint8), r"got uint8 \[8, 8\]; numpy.asarray"),
            (np.zeros((8, 8, 4), np.uint8), r"got uint8 \[8, 8, 4\]"),
            ("photo.jpg", r"got str"),
        ],
    )
    def test_what_is_no_photo(self, photo, message, tiny_checkpoint):
        with pytest.raises(UserError, match=message):
            semfacediff.parse(photo, tiny_checkpoint)

    def test_no_checkpoint(self, tmp_path, face):
        with pytest.raises(UserError, match=r"nothing is at .*nowhere"):
            semfacediff.parse(face.photo, tmp_path / "nowhere")

    def test_no_such_device(self, tiny_checkpoint, face):
        with pytest.raises(
            UserError, match=r"^device: expected auto, cpu, mps, cuda or cuda:N \(the N-th device, from 0\), got 'gpu'$"
        ):
            semfacediff.parse(face.photo, tiny_checkpoint, device="gpu")


class TestEdit:
    def test_only_the_region_changes_and_the_photo_stays(self, face):
        kept = face.photo.copy()
        edited = semfacediff.edit(face.photo, "hair", "bright green hair", labels=face.labels)
        mask = semfacediff.region_mask(face.labels, "hair")
        assert np.array_equal(face.photo, kept)
        assert edited.dtype == np.uint8
        assert edited.shape == face.photo.shape
        assert np.array_equal(edited[mask == 0], face.photo[mask == 0])
        inside = face.labels == HAIR
        assert (edited[inside][:, 1] > edited[inside][:, 0]).mean() > 0.8

    def test_it_repeats_itself_and_takes_options(self, face):
        def made(**options):
            return semfacediff.edit(face.photo, "hair", "blue hair", labels=face.labels, **options)

        assert np.array_equal(made(), made())
        change = [np.abs(made(strength=s).astype(int) - face.photo).sum() for s in (0.0, 0.4, 0.9)]
        assert change[0] < change[1] < change[2]
        assert np.array_equal(made(strength=0.9), made())
        assert np.array_equal(made(editor="identity"), face.photo)

    def test_labels_of_another_space(self, face):
        other = conversion(CELEBAMASK, SPACES["segface"])[face.labels]
        words = ("hair", "blue hair")
        assert np.array_equal(
            semfacediff.edit(face.photo, *words, labels=other, label_space="segface"),
            semfacediff.edit(face.photo, *words, labels=face.labels),
        )

    def test_an_editor_of_ones_own(self, face):
        class Black(Editor):
            name, native_size, batchable = "black", None, False

            def edit(self, requests):
                self.seed = requests[0].seed
                return [torch.zeros_like(r.photo) for r in requests]

        class Wrong(Black):
            def edit(self, requests):
                return [requests[0].photo * 2 - 1]

        black = Black()
        edited = semfacediff.edit(face.photo, "hair", "black", labels=face.labels, editor=black, protocol="thesis")
        assert (edited == 0).all()  # the thesis pastes nothing back
        assert black.seed == 42
        edited = semfacediff.edit(face.photo, "hair", "black", labels=face.labels, editor=black)
        assert (edited[face.labels == 0] > 0).any()
        with pytest.raises(ValueError, match=r"editors return photos in \[0,1\]"):
            semfacediff.edit(face.photo, "hair", "black", labels=face.labels, editor=Wrong())
        with pytest.raises(UserError, match=r"options \(strength\) are for an editor given by name"):
            semfacediff.edit(face.photo, "hair", "black", labels=face.labels, editor=black, strength=1.0)

    def test_negative_prompts_are_the_protocols_or_ones_own(self, face):
        class Reading(Editor):
            name, native_size, batchable = "reading", None, False

            def reads_negatives(self):
                return True

            def edit(self, requests):
                self.told, self.mask = requests[0].negative_prompt, requests[0].inpaint_mask
                return [requests[0].photo]

        def told(**options):
            editor = Reading()
            semfacediff.edit(face.photo, "hair", "copper red hair", labels=face.labels, editor=editor, **options)
            assert editor.mask == ("blend" if options.get("protocol") == "thesis" else "generation")
            return editor.told

        assert "brown hair" in told()
        assert "red hair" not in told()
        assert told(protocol="thesis") == ""
        assert told(negative="hats") == "hats"
        with pytest.raises(UserError, match="editor 'recolor' reads none"):
            semfacediff.edit(face.photo, "hair", "red hair", labels=face.labels, negative="hats")

    def test_a_prompt_without_a_colour_warns(self, face):
        with pytest.warns(UserWarning, match="edit of 'hair': prompt names no colour"):
            semfacediff.edit(face.photo, "hair", "smooth hair", labels=face.labels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            semfacediff.edit(face.photo, "hair", "red hair", labels=face.labels)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"attribute": "beard"}, "unknown attribute 'beard'; choose one of hair, lips"),
            ({"labels": np.zeros((5, 7), np.uint8)}, "labels: expected the photo's size 96 x 96, got 5 x 7; resize"),
            ({"labels": np.zeros((96, 96), np.float32)}, r"labels: expected integers \[H, W\], got float32 \[96, 96\]"),
            ({"labels": np.full((96, 96), 19)}, r"labels: expected 0..18 as in label space 'celebamask', got 19..19"),
            ({"label_space": "celeba"}, "unknown label space 'celeba'"),
            ({"editor": "paint"}, "editor: expected one of .*identity, .*recolor.*, got 'paint'"),
            ({"editor": "precomputed"}, "editor 'precomputed' reads files of a data set"),
            ({"protocol": "loose"}, "protocol: expected one of strict, thesis, got 'loose'"),
            ({"strength": 2.0}, "editor 'recolor': strength: .* less than or equal to 1, got 2.0"),
            ({"power": 1}, "editor 'recolor': power: .*not permitted, got 1"),
        ],
    )
    def test_mistakes_are_sentences(self, changed, message, face):
        with pytest.raises(UserError, match=message):
            semfacediff.edit(
                **{"photo": face.photo, "attribute": "hair", "prompt": "red", "labels": face.labels} | changed
            )


class TestScore:
    @pytest.mark.parametrize("protocol", ["strict", "thesis"])
    def test_the_metrics_own_values(self, protocol, face):
        mask = semfacediff.region_mask(face.labels, "hair")
        edited = np.clip(face.photo + np.arange(3) * 4, 0, 255).astype(np.uint8)
        pair = EditPair(photo=face.photo, edit=edited, blend=mask, before=mask > 127, after=None)
        expected = SSIM(protocol).score(pair) | PSNR(protocol).score(pair)
        assert semfacediff.score(face.photo, edited, mask, protocol) == expected

    def test_the_same_photo_is_perfect(self, face):
        mask = semfacediff.region_mask(face.labels, "hair")
        assert semfacediff.score(face.photo, face.photo, mask) == {
            "ssim": 1.0,
            "psnr_outside": float("inf"),
            "max_abs_outside": 0.0,
        }

    def test_a_mask_of_truth_values(self, face):
        mask, edited = face.labels == HAIR, 255 - face.photo
        as_bytes = mask.astype(np.uint8) * 255
        assert semfacediff.score(face.photo, edited, mask) == semfacediff.score(face.photo, edited, as_bytes)

    def test_nothing_outside(self, face):
        scores = semfacediff.score(face.photo, face.photo, np.full((96, 96), 255, np.uint8))
        assert set(scores.values()) == {None}

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"mask": np.zeros((4, 96), np.uint8)}, "mask: expected the photo's size 96 x 96, got 4 x 96"),
            ({"mask": np.zeros((96, 96))}, "mask: expected uint8 with 255 = edit, or bool, got float64"),
            ({"edit": np.zeros((8, 8, 3), np.uint8)}, "edit: expected the photo's size 96 x 96, got 8 x 8"),
            ({"edit": np.zeros((96, 96, 3))}, r"edit: expected a uint8 array \[H, W, 3\] \(RGB\), got float64"),
            ({"protocol": "segface"}, "protocol: expected one of strict, thesis, got 'segface'"),
            ({"weights": {"lpips_alexnet": "nowhere.pth"}}, "weights.lpips_alexnet: no file at nowhere.pth"),
            ({"weights": {"lpips": "a.pth"}}, "weights: expected 'lpips_alexnet' or 'clip', got 'lpips'"),
            ({"weights": {"clip": "a.pth"}}, r"score: weights\['clip'\] compares the edit with a prompt; pass prompt="),
            (
                {"attribute": "hair"},
                "score: iou compares the region before and after; pass attribute, labels and edit_",
            ),
            (
                {"attribute": "nose", "labels": np.zeros((96, 96), int), "edit_labels": np.full((96, 96), 19)},
                r"edit_labels: expected 0..18 as in label space 'celebamask', got 19..19",
            ),
        ],
    )
    def test_mistakes_are_sentences(self, changed, message, face):
        mask = np.zeros((96, 96), np.uint8)
        with pytest.raises(UserError, match=message):
            semfacediff.score(**{"photo": face.photo, "edit": face.photo, "mask": mask} | changed)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        from torchvision.models import AlexNet

        with torch.device("meta"):
            shapes = AlexNet().features.state_dict()
        alexnet = {f"features.{k}": 0.05 * torch.randn(v.shape) for k, v in shapes.items()}
    torch.save(alexnet, folder / "alexnet.pth")
    torch.save(CLIP(SMALL, None, "x", CPU).net.state_dict(), folder / "clip.pt")
    return {"lpips_alexnet": folder / "alexnet.pth", "clip": str(folder / "clip.pt")}


class TestScoresOfNetworks:
    """With supplied weights the numbers are those of the metrics, and a network is loaded once."""

    def test_lpips_clip_and_iou(self, face, files, monkeypatch):
        edited = semfacediff.edit(face.photo, "hair", "blue hair", labels=face.labels)
        mask, after = semfacediff.region_mask(face.labels, "hair"), np.roll(face.labels, 3, axis=0)
        regions = {"attribute": "hair", "labels": face.labels, "edit_labels": after}
        options = {"weights": files, "clip_model": SMALL, "prompt": "blue hair", "device": "cpu", **regions}
        scores = semfacediff.score(face.photo, edited, mask, **options)
        assert list(scores) == ["ssim", "psnr_outside", "max_abs_outside", "iou", "lpips", "clip"]
        before, moved = face.labels == HAIR, after == HAIR
        assert scores["iou"] == (before & moved).sum() / (before | moved).sum()
        pair = EditPair(face.photo, edited, mask, before, moved, "blue hair")
        lpips = LPIPS("strict", torch.load(files["lpips_alexnet"]), "x", CPU).score(pair)
        clip = CLIP(SMALL, torch.load(files["clip"]), "x", CPU).score(pair)
        assert {k: scores[k] for k in ("lpips", "clip")} == lpips | clip
        monkeypatch.setattr(arrays, "find", None)
        assert semfacediff.score(face.photo, edited, mask, **options) == scores

    def test_sets(self, toy_samples, tmp_path, monkeypatch):
        """Network and matrix root, which cost seconds, are replaced; their own tests are elsewhere."""
        monkeypatch.setattr(arrays, "_inception", lambda *_: Means())
        monkeypatch.setattr(set_scores, "frechet_distance", lambda a, b: float(((a.mean - b.mean) ** 2).sum()))
        faces = [s.photo for s in toy_samples(5, 64)]
        edits = [255 - p for p in faces]
        weights = {"inception": tmp_path / "x.pth"}
        with pytest.warns(UserWarning, match="FID over n = 5 is biased upwards"):
            found = semfacediff.score_sets(iter(faces), iter(edits), weights=weights)
        rows = [np.array(list(Means().features(images))) for images in (faces, edits)]
        expected, _ = SetScores(("fid", "kid"), Means()).score(*rows)
        assert found == expected
        assert found["fid_n"] == 5
        assert found["fid"] > 0

    @pytest.mark.parametrize(
        ("n", "m", "weights", "message"),
        [
            (2, 2, {}, r"score_sets: expected weights=\{'inception': FILE\}"),
            (2, 2, {"clip": "a"}, "weights: expected 'inception', got 'clip'"),
            (2, 1, {"inception": "a"}, "score_sets: 2 photos and 1 edits; pass one edit a photo"),
            (1, 1, {"inception": "a"}, "score_sets: 1 photo, at least 2 are needed"),
        ],
    )
    def test_mistakes_of_sets_are_sentences(self, face, monkeypatch, n, m, weights, message):
        monkeypatch.setattr(arrays, "_inception", lambda *_: Means())
        with pytest.raises(UserError, match=message):
            semfacediff.score_sets([face.photo] * n, [face.photo] * m, weights=weights)
        with pytest.raises(UserError, match=r"photos\[1\]: expected a uint8 array"):
            semfacediff.score_sets([face.photo, face.photo / 255], [], weights={"inception": "a"})


class Means:
    """Features that cost nothing: a photo's means by place, in the first few of 2,048 entries."""

    weights = "sha256:abc"

    def features(self, photos):
        for photo in photos:
            row = np.zeros(FEATURES, np.float32)
            row[:16] = photo.reshape(4, len(photo) // 4, 4, -1).mean((1, 3)).ravel() / 255
            yield row


def test_a_run_gives_the_same_numbers(tmp_path, toy_folder, toy_samples, compose, capsys):
    face, root = toy_samples(1, 96)[0], toy_folder(1, 96)
    places = ("data=folder", f"data.root={root}", "data.split=all", "parser=ground_truth", "runtime.device=cpu")
    cfg = compose("evaluate", *places, "attributes=[hair]", "metrics.columns=[ssim,psnr]", "strips=0")
    settings = config.typed(cfg, config.EditingEvaluation)
    assert tasks.start(settings, tmp_path / "run") == 0
    row = pd.read_parquet(tmp_path / "run" / "samples.parquet").iloc[0]
    edited = semfacediff.edit(face.photo, "hair", settings.prompts.texts["hair"], labels=face.labels)
    for column, value in semfacediff.score(face.photo, edited, semfacediff.region_mask(face.labels, "hair")).items():
        assert row[column] == value, column

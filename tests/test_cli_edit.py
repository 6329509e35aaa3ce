"""``semfacediff edit``: edits, masks, strips and records of any photo, and one sentence for a mistake."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import nn

from semfacediff import cli
from semfacediff.commands.edit import one_photo as photo_editing
from semfacediff.commands.edit import photos as edit_photos
from semfacediff.editing.recolor import Recolor
from semfacediff.labels import palette, space
from semfacediff.parsing.checkpoint import ParserCard

SKIN, L_EYE, R_EYE, NOSE, U_LIP, HAIR = 1, 4, 5, 2, 11, 13
COLOURS = torch.from_numpy(palette(space("celebamask")).astype(np.float32) / 255)


class ByColour(nn.Module):
    """Knows a pixel's class by its colour: photos in these tests are painted in the palette's."""

    def forward(self, x):
        return -100 * (x[:, None] - COLOURS[None, :, :, None, None]).square().sum(2)


@pytest.fixture(autouse=True)
def parser(monkeypatch):
    card = ParserCard(
        name="by_colour",
        label_space="celebamask",
        input_size=96,
        mean=[0.0] * 3,
        std=[1.0] * 3,
        options={},
        training={},
    )
    monkeypatch.setattr(photo_editing, "open_trained", lambda settings: (ByColour(), card, "d" * 64))


def face(height, width, *centres, r=0.3):
    """uint8 ``[H, W, 3]`` with a face at every centre (x, y as shares), painted in the palette's colours."""
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), int)
    for cx, cy in centres or [(0.5, 0.5)]:
        u, v = (x - cx * width) / (r * min(height, width)), (y - cy * height) / (r * min(height, width))
        parts = (
            (HAIR, 0, -0.4, 1.2, 1.1),
            (SKIN, 0, 0, 1, 1.2),
            (L_EYE, 0.4, -0.2, 0.25, 0.15),
            (R_EYE, -0.4, -0.2, 0.25, 0.15),
            (NOSE, 0, 0.2, 0.2, 0.3),
            (U_LIP, 0, 0.8, 0.4, 0.15),
        )
        for label, dx, dy, rx, ry in parts:
            labels[((u - dx) / rx) ** 2 + ((v - dy) / ry) ** 2 <= 1] = label
    return palette(space("celebamask"))[labels], labels


@pytest.fixture
def photos(tmp_path, encode):
    """Three photos of three shapes; the last one's face is cut by the frame."""
    root = tmp_path / "photos"
    root.mkdir()
    (root / "square.png").write_bytes(encode(face(96, 96)[0]))
    (root / "wide.png").write_bytes(encode(face(80, 150)[0]))
    (root / "tall.webp").write_bytes(encode(face(140, 70, (0.1, 0.3), r=0.6)[0], "webp", lossless=True))
    return root


def run(photo, *words, out="out", editor="recolor", parser="ckpt"):
    arguments = ["edit", str(photo), *words, "--out", str(out), "--device", "cpu", "--editor", editor]
    return cli.main([*arguments, *(["--parser", parser] if parser else [])])


def read(file):
    with Image.open(file) as image:
        return np.asarray(image)


def sentence(capsys):
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    return said[0].removeprefix("error: ")


class TestEditing:
    def test_everything_is_written(self, photos, tmp_path, capsys):
        out = tmp_path / "out"
        assert run(photos / "square.png", "hair", "green hair", out=out) == 0
        assert capsys.readouterr().out == f"edited 1 of 1 photos into {out}\n"
        assert sorted(p.name for p in out.iterdir()) == ["square", "square.png"]
        masks = [f"1_hair_{kind}.png" for kind in ("blend", "generation", "semantic")]
        assert sorted(p.name for p in (out / "square").iterdir()) == [*masks, "edit.json", "strip.png"]
        photo, labels = face(96, 96)
        edit, blend = read(out / "square.png"), read(out / "square" / "1_hair_blend.png")
        assert np.array_equal(edit[blend == 0], photo[blend == 0])
        assert (edit != photo).any()
        assert np.array_equal(read(out / "square" / "1_hair_semantic.png") == 255, labels == HAIR)

    def test_the_record_says_how_to_repeat_it(self, photos, tmp_path):
        run(photos / "square.png", "hair", "green hair", "--seed", "7", "--strength", "0.5", out=tmp_path / "a")
        facts = json.loads((tmp_path / "a" / "square" / "edit.json").read_text())
        identity = facts["identity"]
        assert identity["seed"] == 7
        assert identity["edits"][0]["prompt"] == "green hair"
        assert identity["edits"][0]["strength"] == 0.5
        assert identity["parser_digest"] == "d" * 64
        assert identity["editor"]["name"] == "recolor"
        assert len(identity["photo_sha256"]) == 64
        for key in ("command", "packages", "hardware", "code", "faces", "stages", "edit_sha256", "runtime"):
            assert facts[key]
        for kind in ("semantic", "generation", "blend"):
            mask = read(tmp_path / "a" / "square" / f"1_hair_{kind}.png")
            assert facts["stages"][0][f"mask_{kind}"] == hashlib.sha256(mask.tobytes()).hexdigest()[:16]
        run(photos / "square.png", "hair", "green hair", "--seed", "7", "--strength", "0.5", out=tmp_path / "b")
        assert (tmp_path / "a" / "square.png").read_bytes() == (tmp_path / "b" / "square.png").read_bytes()

    @pytest.mark.parametrize(("name", "size"), [("wide.png", (80, 150)), ("tall.webp", (140, 70))])
    def test_photos_keep_their_size(self, photos, tmp_path, name, size):
        assert run(photos / name, "hair", "green hair", out=tmp_path / "out") == 0
        edit = read(next((tmp_path / "out").glob("*.png")))
        assert edit.shape[:2] == size
        assert (edit != np.asarray(Image.open(photos / name))).any()

    def test_the_colour_profile_stays(self, tmp_path, encode):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        (tmp_path / "p3.png").write_bytes(encode(face(96, 96)[0], icc_profile=profile))
        assert run(tmp_path / "p3.png", "hair", "green hair", out=tmp_path / "out") == 0
        with Image.open(tmp_path / "out" / "p3.png") as image:
            assert image.info["icc_profile"] == profile
            assert (np.asarray(image) != face(96, 96)[0]).any()

    def test_several_edits_are_a_cascade(self, photos, tmp_path):
        out = tmp_path / "out"
        assert run(photos / "square.png", "hair", "green hair", "lips", "blue lips", out=out) == 0
        facts = json.loads((out / "square" / "edit.json").read_text())
        assert [(s["stage"], s["attribute"], s["status"]) for s in facts["stages"]] == [
            (1, "hair", "ok"),
            (2, "lips", "ok"),
        ]
        assert all(s["max_abs_outside"] == 0 for s in facts["stages"])
        assert run(photos / "square.png", "hair", "green hair", out=tmp_path / "one") == 0
        assert np.array_equal(read(tmp_path / "one" / "square.png"), read(out / "square" / "1_hair.png"))
        assert np.array_equal(read(out / "square.png"), read(out / "square" / "2_lips.png"))

    def test_reparsing_follows_the_edit_and_the_first_parse_does_not(self, photos, tmp_path):
        """Hair that was painted in another colour is parsed as something else."""
        for name, more in (("with", ()), ("without", ("--no-reparse",))):
            run(photos / "square.png", "hair", "white hair", "hair", "black hair", *more, out=tmp_path / name)
        masks = [read(tmp_path / n / "square" / "2_hair_semantic.png") for n in ("with", "without")]
        first = read(tmp_path / "without" / "square" / "1_hair_semantic.png")
        assert np.array_equal(masks[1], first)
        assert not np.array_equal(masks[0], first)

    def test_a_folder_is_edited_once(self, photos, tmp_path, capsys):
        out = tmp_path / "out"
        (photos / "bad.jpg").write_bytes(b"<html>")
        assert run(photos, "hair", "green hair", out=out) == 1
        said = capsys.readouterr()
        assert f"edited 3 of 4 photos into {out}\n" in said.out
        assert "error: bad.jpg: not a readable image" in said.err
        report = json.loads((out / "edit_report.json").read_text())
        assert (report["photos"], report["edited"], list(report["failed"])) == (4, 3, ["bad.jpg"])
        before = {p: p.stat().st_mtime_ns for p in out.glob("*/*")}
        run(photos, "hair", "green hair", out=out)
        assert "3 of them by an earlier run" in capsys.readouterr().out
        assert {p: p.stat().st_mtime_ns for p in out.glob("*/*")} == before
        run(photos, "hair", "red hair", out=out)
        assert "earlier" not in capsys.readouterr().out

    def test_an_edit_in_the_place_of_another_leaves_nothing_of_it(self, photos, tmp_path):
        out = tmp_path / "out"
        run(photos / "square.png", "hair", "green hair", "lips", "blue lips", out=out)
        (out / "square" / "mine.txt").touch()
        run(photos / "square.png", "lips", "blue lips", out=out)
        masks = [f"1_lips_{kind}.png" for kind in ("blend", "generation", "semantic")]
        assert sorted(p.name for p in (out / "square").iterdir()) == [*masks, "edit.json", "mine.txt", "strip.png"]

    def test_an_edit_that_was_killed_is_made_again(self, photos, tmp_path, monkeypatch):
        """And never taken for the one before it, whose record lay in the same place."""
        out, words = tmp_path / "out", (photos / "square.png", "hair", "green hair")
        run(*words, out=out)
        first = (out / "square.png").read_bytes()

        def killed(file, text):
            raise KeyboardInterrupt

        with monkeypatch.context() as m:
            m.setattr(edit_photos, "write_text", killed)
            assert run(photos / "square.png", "hair", "red hair", out=out) == 130
        assert (out / "square.png").read_bytes() != first
        run(*words, out=out)
        assert (out / "square.png").read_bytes() == first

    def test_an_editor_that_fails_on_a_photo_costs_no_other(self, photos, tmp_path, monkeypatch, capsys):
        right = Recolor.edit

        def edit(self, requests):
            if requests[0].sample_id == "tall":
                raise ValueError("no numbers")
            return right(self, requests)

        monkeypatch.setattr(Recolor, "edit", edit)
        assert run(photos, "hair", "green hair", out=tmp_path / "out") == 1
        assert sentence(capsys) == "tall.webp: ValueError: no numbers"
        assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["square.png", "wide.png"]

    def test_a_long_prompt_does_not_stretch_the_strip(self, photos, tmp_path):
        sizes = []
        for name, prompt in (("short", "green hair"), ("long", "green\n" * 300)):
            run(photos / "square.png", "hair", prompt, out=tmp_path / name)
            sizes.append(read(tmp_path / name / "square" / "strip.png").shape)
        assert sizes[0] == sizes[1]

    def test_an_empty_region_among_others_is_left_out(self, photos, tmp_path, capsys):
        assert run(photos / "square.png", "hat", "red hat", "hair", "green hair", out=tmp_path / "out") == 0
        assert "square.png: the parse shows no hat, so this edit was skipped" in capsys.readouterr().err
        facts = json.loads((tmp_path / "out" / "square" / "edit.json").read_text())
        assert [s["status"] for s in facts["stages"]] == ["empty_region", "ok"]

    @pytest.mark.parametrize("prompt", ["волосы цвета green", "緑 green 🌲", "green " * 300])
    def test_any_words_are_taken(self, photos, tmp_path, prompt):
        assert run(photos / "square.png", "hair", prompt, out=tmp_path / "out") == 0
        assert (
            json.loads((tmp_path / "out" / "square" / "edit.json").read_text())["identity"]["edits"][0]["prompt"]
            == prompt
        )


class TestOwnMask:
    @pytest.fixture
    def mask(self, tmp_path, encode):
        """A square of the upper left, of twice the photo's size."""
        values = np.zeros((192, 192), np.uint8)
        values[:64, :64] = 255
        (tmp_path / "mask.png").write_bytes(encode(values))
        return tmp_path / "mask.png"

    def test_it_is_the_region(self, photos, mask, tmp_path):
        assert run(photos / "square.png", "hair", "green", "--mask", str(mask), out=tmp_path / "out") == 0
        semantic = read(tmp_path / "out" / "square" / "1_hair_semantic.png")
        expected = np.zeros((96, 96), np.uint8)
        expected[:32, :32] = 255
        assert np.array_equal(semantic, expected)
        edit, blend = read(tmp_path / "out" / "square.png"), read(tmp_path / "out" / "square" / "1_hair_blend.png")
        changed = (edit != read(photos / "square.png")).any(2)
        assert changed.any()
        assert not changed[blend == 0].any()

    def test_no_face_is_needed_and_another_mask_is_another_edit(self, mask, tmp_path, encode, capsys):
        (tmp_path / "sky.png").write_bytes(encode(np.full((64, 64, 3), 90, np.uint8)))
        words = (tmp_path / "sky.png", "hair", "green", "--mask", str(mask))
        out = tmp_path / "out"
        assert [run(*words, out=out) for _ in range(2)] == [0, 0]
        assert "1 of them by an earlier run" in capsys.readouterr().out
        mask.write_bytes(encode(np.full((64, 64), 255, np.uint8)))
        assert run(*words, out=out) == 0
        assert "earlier" not in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("photo", "words", "said"),
        [
            (
                "square.png",
                ("hair", "green", "lips", "red"),
                "--mask: expected one edit of one photo, got 2 edits of 1",
            ),
            (".", ("hair", "green"), "--mask: expected one edit of one photo, got 1 edits of 3 photos"),
            ("wide.png", ("hair", "green"), "mask.png: the mask is 192x192 px, its photo 150x80, which is another"),
        ],
    )
    def test_what_it_cannot_be_for(self, photos, mask, tmp_path, capsys, photo, words, said):
        assert run(photos / photo, *words, "--mask", str(mask), out=tmp_path / "out") == 2
        assert said in sentence(capsys)

    def test_one_that_is_empty_or_not_there(self, photos, mask, tmp_path, capsys, encode):
        mask.write_bytes(encode(np.zeros((96, 96), np.uint8)))
        words = ("hair", "green", "--mask", str(mask))
        assert run(photos / "square.png", *words, out=tmp_path / "out") == 2
        assert "mask.png: the mask covers 0.00 % of the photo, expected at least 0.1 %" in sentence(capsys)
        mask.unlink()
        assert run(photos / "square.png", *words, out=tmp_path / "out") == 2
        assert "mask.png: cannot be read (No such file or directory)" in sentence(capsys)


class TestFaces:
    @pytest.fixture
    def two(self, tmp_path, encode):
        photo, _ = face(100, 200, (0.25, 0.5), (0.75, 0.5), r=0.22)
        small = palette(space("celebamask"))[face(100, 200, (0.75, 0.5), r=0.16)[1]]
        photo[:, 100:] = small[:, 100:]
        (tmp_path / "two.png").write_bytes(encode(photo))
        return tmp_path / "two.png", photo

    def test_several_are_refused(self, two, tmp_path, capsys):
        assert run(two[0], "hair", "green hair", out=tmp_path / "out") == 2
        said = sentence(capsys)
        assert said.startswith("two.png: the parse shows 2 faces (")
        assert said.endswith("edit the largest with --face largest or all of them with --face all")

    def test_the_largest_alone_or_all(self, two, tmp_path):
        file, photo = two
        run(file, "hair", "green hair", "--face", "largest", out=tmp_path / "largest")
        run(file, "hair", "green hair", "--face", "all", out=tmp_path / "all")
        largest, every = (read(tmp_path / n / "two.png") for n in ("largest", "all"))
        assert np.array_equal(largest[:, 110:], photo[:, 110:])
        assert (largest[:, :90] != photo[:, :90]).any()
        assert (every[:, 110:] != photo[:, 110:]).any()

    def test_none(self, tmp_path, encode, capsys):
        (tmp_path / "sky.png").write_bytes(encode(face(64, 64, (5, 5))[0]))
        assert run(tmp_path / "sky.png", "hair", "green hair", out=tmp_path / "out") == 2
        assert sentence(capsys).startswith("sky.png: the parse shows no face (")
        assert run(tmp_path / "sky.png", "hair", "green hair", "--face", "all", out=tmp_path / "out") == 2
        assert sentence(capsys).startswith("sky.png: the parse shows no hair (0.00 % of the photo, expected at least")


class TestDiffusion:
    """The tiny twin through the same code path as the real one."""

    def edit(self, photo, tiny_sdxl, out, *more):
        words = ("hair", "straight hair", "--weights", str(tiny_sdxl), "--set", "editor.native_size=64")
        return run(photo, *words, "--set", "editor.steps=2", *more, out=out, editor="sdxl_inpaint")

    def test_the_negative_prompt_is_made_shown_and_recorded(self, photos, tiny_sdxl, tmp_path, capsys):
        assert self.edit(photos / "wide.png", tiny_sdxl, tmp_path / "out") == 0
        facts = json.loads((tmp_path / "out" / "wide" / "edit.json").read_text())
        negative = facts["identity"]["edits"][0]["negative_prompt"]
        assert negative.startswith("distorted, artefact, ")
        assert "curly hair" in negative
        assert f"hair: negative prompt: {negative}" in capsys.readouterr().err
        photo, edit = (read(f) for f in (photos / "wide.png", tmp_path / "out" / "wide.png"))
        blend = read(tmp_path / "out" / "wide" / "1_hair_blend.png")
        assert edit.shape == photo.shape
        assert np.array_equal(edit[blend == 0], photo[blend == 0])
        assert (edit != photo).any()

    def test_long_prompts_are_refused_before_anything_is_made(self, photos, tiny_sdxl, tmp_path, capsys):
        words = ("hair", "lovely hair " * 160, "--weights", str(tiny_sdxl), "--set", "editor.native_size=64")
        assert run(photos, *words, out=tmp_path / "out", editor="sdxl_inpaint") == 2
        said = sentence(capsys)
        assert "the prompt of stage 1 ('hair'): 'lovely hair " in said
        assert "has 322 tokens, tokenizer 1 of 2" in said
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_seams_and_what_changes_results_make_another_edit(self, photos, tiny_sdxl, tmp_path, capsys):
        photo, out = photos / "square.png", tmp_path / "out"
        made = []
        for words in ("seam=none", "seam=laplacian", "runtime.diffusion.vae_tiling=true", "editor.dtype=bfloat16"):
            assert self.edit(photo, tiny_sdxl, out, "--set", words) == 0
            assert "earlier run" not in capsys.readouterr().out
            facts = json.loads((out / "square" / "edit.json").read_text())
            made.append(facts["edit_sha256"])
            assert facts["stages"][0]["max_abs_outside"] == 0
            assert facts["stages"][0]["peak_memory_mib"] > 0
        assert made[0] != made[1]
        assert made[0] != made[3]
        assert self.edit(photo, tiny_sdxl, out, "--set", "editor.dtype=bfloat16") == 0
        assert "1 of them by an earlier run" in capsys.readouterr().out

    def test_a_pipeline_that_cannot_be_opened_is_said_once(self, photos, tiny_sdxl, tmp_path, capsys):
        folder = Path(shutil.copytree(tiny_sdxl / "sdxl_inpaint", tmp_path / "sdxl_inpaint"))
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        assert self.edit(photos, tmp_path, tmp_path / "out") == 2
        assert "the pipeline cannot be opened (" in sentence(capsys)

    def test_no_step_to_take(self, photos, tiny_sdxl, tmp_path, capsys):
        assert self.edit(photos, tiny_sdxl, tmp_path / "out", "--strength", "0.3") == 2
        assert "leaves no step to take" in sentence(capsys)

    def test_no_weights(self, photos, tmp_path, capsys):
        words = ("hair", "red hair", "--weights", str(tmp_path), "--set", "weights.download=false")
        assert run(photos, *words, out=tmp_path / "out", editor="sdxl_inpaint") == 2
        assert sentence(capsys).endswith("; or take --editor recolor, which needs no weights")


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("hair",), "EDITS: expected pairs ATTRIBUTE PROMPT, got 1 arguments (hair)"),
            (("hair", "curly", "brown"), "EDITS: expected pairs ATTRIBUTE PROMPT, got 3 arguments"),
            (("beard", "red beard"), "unknown attribute 'beard'; choose one of hair, lips"),
            (("hair", " "), "cascade: the prompt of stage 1 ('hair') is empty"),
            (("hair", "?!..."), "cascade: the prompt of stage 1 ('hair') has no words ('?!...')"),
            (("hair", "red \udcff"), "cascade: the prompt of stage 1 ('hair') is not valid Unicode"),
            (("hair", "red", "--strength", "2"), "cascade.stages.0.strength: "),
            (("hair", "red", "--strength", "0.5,0.6"), "--strength: expected 1 or 1 numbers"),
            (
                ("hair", "red", "--negative", "blue"),
                "the negative prompt of stage 1 ('hair'): editor 'recolor' reads none",
            ),
            (("hair", "red", "--set", "editor=identity"), "--set editor=...: expected one of editor.*, region.*, "),
            (("hair", "red", "--set", "++protocol=thesis"), "--set protocol=...: expected one of editor.*, region.*, "),
            (("hair", "red", "--set", "seed=7"), "other settings have flags (semfacediff edit --help)"),
            (("hair", "red", "--set", "editor.strenth=1"), "unknown key"),
            (("hat", "red hat"), "square.png: the parse shows no hat (0.00 % of the photo, expected at least 0.1 %)"),
        ],
    )
    def test_one_sentence(self, photos, tmp_path, capsys, words, said):
        assert run(photos / "square.png", *words, out=tmp_path / "out") == 2
        assert said in sentence(capsys)
        assert not list((tmp_path / "out").glob("*"))

    def test_an_unknown_attribute_is_named_once(self, photos, tmp_path, capsys):
        assert run(photos / "square.png", "hair", "brown", "beard", "red", out=tmp_path / "out") == 2
        said = sentence(capsys)
        assert said.startswith("unknown attribute 'beard'; choose one of hair, lips, ")
        assert said.count("beard") == 1
        assert run(photos / "square.png", "har", "brown", out=tmp_path / "out") == 2
        assert sentence(capsys).startswith("unknown attribute 'har'; did you mean 'hair'? choose one of hair, lips, ")

    def test_no_parser(self, photos, tmp_path, capsys, nothing_ships):
        assert run(photos, "hair", "red", parser=None, out=tmp_path / "out") == 2
        assert sentence(capsys) == (
            "no parser ships with this version; give --parser FOLDER (a run of train_parser.py)"
        )

    def test_an_unknown_editor(self, photos, tmp_path, capsys):
        assert run(photos, "hair", "red", editor="dalle", out=tmp_path / "out") == 2
        assert sentence(capsys).startswith("--editor: expected one of command, flux_fill, flux_kontext, identity, ")

    def test_photos_are_never_overwritten(self, photos, capsys):
        assert run(photos, "hair", "red", out=photos) == 2
        assert "is the folder of the photos" in sentence(capsys)

"""What ``semfacediff edit --editor sca_dm`` refuses, and what it advises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from semfacediff import cli
from semfacediff.data.toy import ToyFaces


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder of a photo to edit, a reference with a label map, one of another name, an empty one, and no photo."""
    faces = ToyFaces(2, 64)
    for name, pixels in {
        "photo.png": faces[0].photo,
        "other.png": faces[1].photo,
        "maps/other.png": faces[1].labels,
        "maps/stranger.png": faces[1].labels,
        "empty/other.png": np.zeros((64, 64), np.uint8),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "x.py").write_text("print()")
    return tmp_path


@pytest.fixture
def refused(files, tiny_checkpoint, capsys):
    """``refused(*settings)``: the sentence that an edit with these ends with."""

    def edit(*settings: str) -> str:
        words = [word for key in settings for word in ("--set", key.format(here=files))]
        command = ["edit", str(files / "photo.png"), "hair", "any", "--out", str(files / "out"), "--device", "cpu"]
        assert cli.main([*command, "--editor", "sca_dm", "--parser", str(tiny_checkpoint), *words]) == 2
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert not (files / "out").exists()
        return said.removeprefix("error: ")

    return edit


OTHERWISE = "or take --editor recolor, which needs no weights"
REFERENCE = "editor.reference={here}/other.png"


def test_without_a_model_the_flag_is_named(refused):
    assert refused() == (
        f"--editor sca_dm needs a trained model: --set editor.checkpoint=RUN (a run of train_synthesis.py), {OTHERWISE}"
    )


def test_without_a_model_there_another_editor_is_offered(refused, files):
    said = refused("editor.checkpoint={here}/nowhere")
    assert said.startswith(f"editor.checkpoint: nothing is at {files}/nowhere; expected a run of train_synthesis.py")
    assert said.endswith(f"; {OTHERWISE}")


def test_a_file_that_is_no_released_model_is_named(refused, files):
    save_file({"x": torch.ones(1)}, files / "x.safetensors")
    said = refused("editor.checkpoint={here}/x.safetensors")
    assert said.startswith(f"{files}/x.safetensors: the checkpoint has no averaged weights")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["editor.steps=60"],
            "editor.steps: 60 does not divide 1000 (the release would silently take 63); use 50 or 100, or "
            "editor.spacing=compatible for those 63",
        ),
        (["editor.steps=1000"], "editor.steps: 1000 would need step 1000 of a schedule that ends at 999; use 500"),
        (
            ["editor.guidance=1.2"],
            "guidance 1.2 is ambiguous: name its form, guidance_form=code (null + s (cond - null)) or "
            "guidance_form=paper (cond + s (cond - null), in the code's terms 2.2)",
        ),
        (
            ["editor.reference={here}/x.py"],
            "editor.reference: x.py: not a readable image (expected JPEG, PNG, WebP, TIFF, BMP or GIF); set "
            "editor.reference=FILE to a photo",
        ),
        (
            [REFERENCE, "editor.reference_labels={here}/x.py"],
            "editor.reference_labels: x.py: not a readable image (expected JPEG, PNG, WebP, TIFF, BMP or GIF); set "
            "editor.reference_labels=FILE to its label map in space celebamask",
        ),
        (
            [REFERENCE, "editor.reference_labels={here}/maps/stranger.png"],
            "photos and label maps are paired by id: no label map for other (1 in all); no photo for stranger "
            "(1 in all); name the files alike",
        ),
        (
            [REFERENCE, "editor.reference_labels={here}/empty/other.png"],
            "editor.reference: the label map of other.png shows no part of a face; take another photo",
        ),
    ],
)
def test_what_weights_cannot_mend_has_advice_of_its_own(refused, tiny_synthesis, settings, said):
    assert refused(f"editor.checkpoint={tiny_synthesis}", *settings) == said

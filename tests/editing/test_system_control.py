"""Controls of a diffusion editor, on the tiny twins: what each takes out, and what is said without weights."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.controls import SYSTEM
from semfacediff.editing.diffusion.weights import NoPipelineError
from semfacediff.editing.system_control import SystemControl
from semfacediff.errors import UserError

TOY = (
    "data=toy data.count=2 data.size=32 editor=control attributes=[hair,lips] metrics=no_weights strips=0 "
    "metrics.columns=[effect,ssim,iou] metrics.on_missing=skip runtime.device=cpu runtime.workers=0 "
    "weights.download=false editor.of.native_size=32 editor.of.steps=2"
).split()


@pytest.fixture(scope="module")
def settings(compose) -> Callable[..., config.EditingEvaluation]:
    return lambda *overrides: config.typed(compose("evaluate", *TOY, *overrides), config.EditingEvaluation)


@pytest.mark.parametrize("name", ["sdxl_inpaint", "sd_inpaint"])
def test_the_round_trip_is_the_autoencoder_alone(inpainter, requested, name):
    from diffusers import AutoencoderKL

    editor, request = inpainter(name), requested(0)
    vae = AutoencoderKL.from_pretrained(editor.files.folder / "vae")
    with torch.inference_mode():
        decoded = vae.decode(vae.encode(2 * request.photo[None] - 1).latent_dist.mean).sample[0]
    (made,) = SystemControl("vae_round_trip", editor).edit([request])
    # some hundred sums of float32 up to a few thousand products long, values about 1
    assert torch.allclose(made, (decoded / 2 + 0.5).clamp(0, 1), atol=1e-4)
    assert not torch.allclose(made, request.photo, atol=0.05)
    other = replace(request, prompt="red", seed=5, masks=requested(1, box=(0, 4, 0, 4)).masks)
    assert torch.equal(SystemControl("vae_round_trip", editor).edit([other])[0], made)


def test_the_model_reads_another_prompt_or_none(inpainter, requested):
    editor, request = inpainter(), requested(0)
    empty, other, true = (SystemControl(kind, editor) for kind in ("empty_prompt", "other_prompt", "true_mask"))
    for control in (empty, other, true):
        control.check({"hair": request.prompt, "lips": "red lips", "skin": "pale skin"})
    assert torch.equal(empty.edit([request])[0], editor.edit([replace(request, prompt="")])[0])
    assert torch.equal(other.edit([request])[0], editor.edit([replace(request, prompt="red lips")])[0])
    last = replace(request, attribute="skin")
    assert torch.equal(other.edit([last])[0], editor.edit([last])[0]), "the last attribute has the first one's prompt"
    assert torch.equal(true.edit([request])[0], editor.edit([request])[0])
    assert not torch.equal(empty.edit([request])[0], editor.edit([request])[0])
    assert (empty.note(request), other.note(request)) == ("the model read ''", "the model read 'red lips'")
    assert true.note(request) is None
    with pytest.raises(UserError, match=r"editor\.kind=other_prompt: expected at least two attributes, got one"):
        other.check({"hair": "blue hair"})


def test_true_masks_are_those_of_the_labels_and_the_parser_judges(settings, tiny_sdxl, tmp_path):
    words = f"weights.root={tiny_sdxl}", "attributes=[hair]", "data.size=64", "parser=face_lite"
    assert tasks.start(settings(*words, "editor.kind=true_mask"), tmp_path / "true") == 0
    assert tasks.start(settings("parser=ground_truth", *words[1:3]), tmp_path / "labels") == 0
    true, labels = (pd.read_parquet(tmp_path / name / "samples.parquet") for name in ("true", "labels"))
    assert true["mask_semantic"].tolist() == labels["mask_semantic"].tolist()
    assert true["iou"].notna().all()
    assert labels["iou"].isna().all()


@pytest.mark.parametrize("kind", SYSTEM)
def test_without_weights_a_control_is_not_run_or_refused(settings, tmp_path, kind, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert tasks.start(settings(f"editor.kind={kind}", "parser=face_lite"), tmp_path / "run") == 0
    said = f"not run, for want of weights: editor.kind={kind}: editor=sdxl_inpaint needs the pipeline"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(NoPipelineError, match=r"editor=sdxl_inpaint needs the pipeline"):
        tasks.start(settings(f"editor.kind={kind}", "parser=face_lite", "metrics.on_missing=error"), tmp_path / "run")


def test_controls_of_pixels_have_the_identity_of_before_and_of_systems_their_own(settings):
    pixels = config.scientific(settings("parser=face_lite"))["editor"]
    assert pixels == {"name": "control", "kind": "nothing", "donors": None}
    system = config.scientific(settings("parser=face_lite", "editor.kind=empty_prompt"))["editor"]
    assert (system["kind"], system["of"]["name"], system["of"]["steps"]) == ("empty_prompt", "sdxl_inpaint", 2)

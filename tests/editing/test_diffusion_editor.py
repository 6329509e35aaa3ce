"""Diffusion editors on tiny pipelines: the same edit whatever is beside it, and every option counts."""

import dataclasses

import cv2
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from semfacediff.editing.diffusion import InpaintEditor, PipelineFiles
from semfacediff.editing.diffusion.pipeline import SCHEDULERS, _set_scheduler
from semfacediff.editing.diffusion.weights import missing_pieces
from semfacediff.editing.identity import Identity
from semfacediff.errors import UserError
from semfacediff.types import to_uint8

EDITORS = ("sdxl_inpaint", "inpaint", "sd_inpaint")


@pytest.fixture
def mixed(requested):
    """Four requests that have nothing in common but the attribute."""
    return [
        requested(0, negative_prompt="blurry"),
        requested(1, box=(0, 12, 0, 9), prompt="red"),
        requested(2, box=(5, 40, 3, 20), size=(48, 24), prompt="a long way to say grey", negative_prompt="black, wet"),
        requested(3, box=(30, 44, 20, 60), size=(64, 80), seed=0, strength=0.7),
    ]


@pytest.mark.parametrize("name", EDITORS)
def test_an_edit_does_not_depend_on_what_is_beside_it(inpainter, mixed, name, tmp_path):
    editor = inpainter(name, zoom=name == "sdxl_inpaint")
    together = editor.edit(mixed)
    for request, edit in zip(mixed, together, strict=True):
        assert edit.dtype == torch.float32
        assert edit.shape == request.photo.shape
        assert 0 <= edit.min() <= edit.max() <= 1
        assert torch.equal(editor.edit([request])[0], edit)
    order = [2, 0, 3, 1]
    assert all(
        torch.equal(edit, together[i]) for i, edit in zip(order, editor.edit([mixed[i] for i in order]), strict=True)
    )


@pytest.mark.parametrize("name", ["sdxl_inpaint", "sd_inpaint"])
def test_a_pipeline_saved_and_opened_again_gives_the_same_bits(inpainter, requested, name, tmp_path):
    editor = inpainter(name)
    editor.pipe.save_pretrained(tmp_path)
    assert missing_pieces(tmp_path) == []
    files = PipelineFiles(tmp_path, editor.files.parts)
    again = InpaintEditor(name, files, editor.options, editor.device, editor.memory)
    assert torch.equal(editor.edit([requested(0)])[0], again.edit([requested(0)])[0])
    assert files.doubts == []  # the mark stayed behind: what is saved anew counts as the user's own


def test_the_thesiss_call_gives_the_bits_of_its_listing(plain, requested):
    """Photo, feathered mask and empty negative prompt straight into diffusers, as the listing does."""
    from diffusers import AutoPipelineForInpainting, DPMSolverMultistepScheduler

    request = requested(0, negative_prompt="", inpaint_mask="blend", seed=42)
    soft = cv2.GaussianBlur(np.rint(request.masks.generation[0].numpy() * 255).astype(np.uint8), (15, 15), 7)
    blend = torch.from_numpy(soft[None] / np.float32(255))
    request = dataclasses.replace(request, masks=dataclasses.replace(request.masks, blend=blend))
    pipe = AutoPipelineForInpainting.from_pretrained(plain.files.folder, add_watermarker=False)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    result = pipe(
        prompt=request.prompt,
        negative_prompt="",
        image=Image.fromarray(to_uint8(request.photo)),
        mask_image=Image.fromarray(soft).convert("L"),
        height=32,
        width=32,
        strength=0.90,
        guidance_scale=12.0,
        num_inference_steps=3,
        generator=torch.Generator(device="cpu").manual_seed(42),
    ).images[0]
    (edit,) = plain.edit([request])
    assert np.array_equal(to_uint8(edit), np.asarray(result))
    for other in ({"negative_prompt": None}, {"inpaint_mask": "generation"}):
        assert not torch.equal(plain.edit([dataclasses.replace(request, **other)])[0], edit), other


def test_the_two_kinds_of_unet_are_what_they_say(inpainter, plain):
    assert plain.pipe.unet.config.in_channels == 9
    other = inpainter("inpaint")
    assert other.pipe.unet.config.in_channels == 4
    assert type(other.pipe).__name__ == "StableDiffusionXLInpaintPipeline"  # saved as one that makes pictures from text
    assert other.files.parts.keys() == plain.files.parts.keys()


def test_the_request_alone_makes_the_edit(plain, requested):
    base = requested(0, negative_prompt="blurry")
    edit = plain.edit([base])[0]
    changes = {"prompt": "red", "negative_prompt": "wet", "seed": 7, "strength": 0.4, "photo": base.photo.flip(2)}
    for field, value in changes.items():
        assert not torch.equal(plain.edit([dataclasses.replace(base, **{field: value})])[0], edit), field
    moved = dataclasses.replace(base, masks=requested(0, box=(2, 9, 2, 9)).masks)
    assert not torch.equal(plain.edit([moved])[0], edit)
    renamed = dataclasses.replace(base, sample_id="other")
    assert torch.equal(plain.edit([renamed])[0], edit)


@pytest.mark.parametrize(
    "option",
    [
        {"scheduler": "ddim"},
        {"scheduler": "euler"},
        {"steps": 4},
        {"guidance": 5.0},
        {"strength": 0.4},
        {"native_size": 48},
        {"dtype": "bfloat16"},
        {"zoom": True},
        {"zoom": True, "zoom_context": 0.25},
    ],
    ids=str,
)
def test_every_option_changes_something(inpainter, plain, requested, option):
    request = requested(0, box=(12, 18, 9, 18), negative_prompt="blurry")
    edit = inpainter(**option).edit([request])[0]
    assert far_apart(edit, plain.edit([request])[0])
    if "zoom_context" in option:
        assert far_apart(edit, inpainter(zoom=True).edit([request])[0])


def test_unipc_is_another_scheduler(inpainter, requested):
    """At more than three steps: before, it does what the default does."""
    plain, unipc = (inpainter(steps=5, **o).edit([requested(0)])[0] for o in ({}, {"scheduler": "unipc"}))
    assert far_apart(plain, unipc)


def far_apart(a, b):
    """By at least a level of 8 bits, which no order of the same sums makes."""
    return (a - b).abs().max() > 1 / 255


def test_the_schedulers_are_those_of_their_names(inpainter):
    pipe = inpainter(scheduler="own", fresh=True).pipe
    assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler"
    made = {}
    for name in SCHEDULERS:
        _set_scheduler(pipe, name)
        made[name] = pipe.scheduler
    assert {name: type(scheduler).__name__ for name, scheduler in made.items()} == {
        "dpmsolver++": "DPMSolverMultistepScheduler",
        "ddim": "DDIMScheduler",
        "euler": "EulerDiscreteScheduler",
        "unipc": "UniPCMultistepScheduler",
        "lcm": "LCMScheduler",
        "lightning": "EulerDiscreteScheduler",
    }
    for scheduler in made.values():
        noise = scheduler.config
        assert (noise.beta_start, noise.beta_end, noise.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert made["dpmsolver++"].config.algorithm_type == "dpmsolver++"
    assert not made["ddim"].config.clip_sample
    assert made["lightning"].config.timestep_spacing == "trailing"


def test_a_scheduler_of_noise_is_refused_for_a_model_of_flows(plain):
    from diffusers import FlowMatchEulerDiscreteScheduler

    class Pipe:
        scheduler = FlowMatchEulerDiscreteScheduler()

    with pytest.raises(UserError, match=r"editor\.scheduler=ddim is for models of noise.*set editor\.scheduler=own"):
        _set_scheduler(Pipe(), "ddim")
    _set_scheduler(Pipe(), "own")


def rows_of_the_unet(editor, request, monkeypatch):
    """Batch sizes that the UNet sees."""
    seen, unet = [], editor.pipe.unet
    inner = type(unet).forward
    monkeypatch.setattr(unet, "forward", lambda x, *a, **k: seen.append(len(x)) or inner(unet, x, *a, **k))
    edit = editor.edit([request])[0]
    return edit, seen


def test_without_guidance_there_is_no_negative_pass(inpainter, plain, requested, monkeypatch):
    request = requested(0, negative_prompt="blurry")
    guided, rows = rows_of_the_unet(plain, request, monkeypatch)
    assert set(rows) == {2}
    none, rows = rows_of_the_unet(inpainter(guidance=0.0), request, monkeypatch)
    assert set(rows) == {1}
    assert len(rows) == 2  # int(3 x 0.9)
    assert not torch.equal(none, guided)
    one = inpainter(guidance=1.0)
    assert torch.equal(one.edit([request])[0], none)
    assert torch.equal(one.edit([requested(0, negative_prompt="wet")])[0], none)


@pytest.mark.parametrize("name", ["sdxl_inpaint", "sd_inpaint"])
@pytest.mark.parametrize(
    "prompt", ["", "🦊", "茶色の髪", "شعر بني", "word " * 500], ids=["none", "emoji", "ja", "ar", "long"]
)
def test_any_text_is_a_prompt(inpainter, plain, requested, name, prompt):
    editor = plain if name == "sdxl_inpaint" else inpainter(name)
    edit = editor.edit([requested(0, prompt=prompt)])[0]
    assert edit.std() > 0
    assert not torch.equal(edit, editor.edit([requested(0)])[0])


@pytest.mark.parametrize("zoom", [False, True])
@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 0), (0, 40, 0, 56), (0, 12, 20, 30), (30, 40, 46, 56), (20, 21, 30, 31)],
    ids=["empty", "full", "top", "corner", "pixel"],
)
def test_any_region_is_a_region(inpainter, plain, requested, box, zoom):
    editor = inpainter(zoom=True) if zoom else plain
    edit = editor.edit([requested(0, box=box, size=(40, 56))])[0]
    assert edit.shape == (3, 40, 56)
    assert torch.isfinite(edit).all()


def test_zoom_leaves_what_lies_beyond_its_crop(inpainter, requested):
    request = requested(0, box=(40, 50, 30, 44), size=(96, 80))
    edit = inpainter(zoom=True).edit([request])[0]
    beyond = torch.ones(96, 80, dtype=torch.bool)
    beyond[31:59, 23:51] = (
        False  # the region's longer side is 14, its middle (45, 37), with 7 of context a square of 28
    )
    assert torch.equal(edit[:, beyond], request.photo[:, beyond])
    assert (edit != request.photo)[:, ~beyond].float().mean() > 0.9


def test_zoom_of_a_region_that_fills_the_frame_is_none(inpainter, plain, requested):
    request = requested(0, box=(0, 32, 0, 32))
    assert torch.equal(inpainter(zoom=True).edit([request])[0], plain.edit([request])[0])


def test_a_strength_of_the_request_is_as_good_as_the_editors(inpainter, plain, requested):
    weak = requested(0, strength=0.4)
    assert torch.equal(plain.edit([weak])[0], inpainter(strength=0.4).edit([requested(0)])[0])


@pytest.mark.parametrize("strength", [0.3, 0.0, 1.2, -1.0])
def test_a_strength_that_leaves_no_step_is_refused(plain, requested, strength):
    with pytest.raises(UserError, match=rf"strength {strength} of 3 steps leaves none to take; raise the strength"):
        plain.edit([requested(0, strength=strength)])


def test_a_size_that_the_model_cannot_work_at_is_refused(inpainter, requested):
    with pytest.raises(UserError, match=r"editor\.native_size=33 is no multiple of 2, which StableDiffusionXLInpaint"):
        inpainter(native_size=33).edit([requested(0)])


def test_texts_are_encoded_once(inpainter, requested, monkeypatch):
    editor, encoded = inpainter(fresh=True), []
    inner = editor.pipe.encode_prompt
    monkeypatch.setattr(editor.pipe, "encode_prompt", lambda **k: encoded.append(k.get("prompt")) or inner(**k))
    texts = ["red", "blue", "red", "red"]
    editor.edit([requested(i, prompt=text) for i, text in enumerate(texts)])
    editor.edit([requested(0, prompt="blue"), requested(0, prompt="red", negative_prompt="wet")])
    assert [text for text in encoded if text is not None] == ["red", "blue", "red"]


def test_tokenizers_are_clips_and_need_no_model(inpainter):
    text = "matte dusty-rose lipstick, très chic 🦊"
    ids = open_clip.tokenize(text)[0]
    ids = ids[: int(ids.argmax()) + 1].tolist()
    for name, n in (("sdxl_inpaint", 2), ("inpaint", 2), ("sd_inpaint", 1)):
        editor = inpainter(name, fresh=True)
        tokenizers = editor.tokenizers()
        assert "pipe" not in vars(editor)
        assert [len(t) for t in tokenizers] == [49408] * n
        assert [t.model_max_length for t in tokenizers] == [77] * n
        assert all(t(text).input_ids == ids for t in tokenizers)
    assert [t.pad_token for t in inpainter().tokenizers()] == ["<|endoftext|>", "!"]


def test_editors_without_text_have_no_tokenizers():
    assert Identity().tokenizers() == []


def test_numbers_that_are_none_are_no_black_photo(inpainter, requested, monkeypatch):
    editor = inpainter()
    monkeypatch.setattr(editor.pipe.unet.conv_out, "forward", lambda x: torch.full_like(x[:, :4], torch.nan))
    with pytest.raises(UserError, match=r"photo0: the model produced NaN; set editor\.dtype=bfloat16 or float32"):
        editor.edit([requested(0)])


def test_a_photo_blanked_by_a_safety_checker_is_no_edit(inpainter, requested, monkeypatch):
    editor = inpainter("sd_inpaint")
    monkeypatch.setattr(editor.pipe, "run_safety_checker", lambda image, *_: (image * 0, [True]))
    with pytest.raises(UserError, match="photo0: the pipeline's safety checker blanked the edit"):
        editor.edit([requested(0)])

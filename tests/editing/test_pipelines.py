"""Pipelines of diffusers by class: what each takes reaches it, what it would ignore is refused or noted."""

import dataclasses
import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from semfacediff import config, tasks
from semfacediff.editing.diffusion import (
    InpaintEditor,
    InpaintOptions,
    InstructEditor,
    InstructOptions,
    MemoryProfile,
    PipelineFiles,
    calling,
    find_pipeline,
)
from semfacediff.editing.diffusion.calling import Unsaid, call_of
from semfacediff.editing.diffusion.lora import Lora, find_lora
from semfacediff.editing.diffusion.pipeline import SharedPipeline
from semfacediff.editing.opening import open_editor
from semfacediff.errors import UserError

from . import twins

CPU = torch.device("cpu")
NONE = {"scheduler": "own", "steps": None, "guidance": None, "native_size": None}


@pytest.fixture(scope="module")
def twin(tmp_path_factory, tiny_sdxl):
    """``twin(name)``: the folder of a tiny pipeline."""
    root = tmp_path_factory.mktemp("twins")

    def find(name: str) -> Path:
        if (tiny_sdxl / name).exists():
            return tiny_sdxl / name
        return root / name if (root / name).exists() else twins.save(root / name, getattr(twins, name))

    return find


@pytest.fixture(scope="module")
def editor(twin):
    """``editor(name, **options)`` at 64 px and 2 steps, everything else the pipeline's own; pipelines are shared."""
    opened = {}

    def share(files, *more) -> SharedPipeline:
        key = files.folder, files.kind
        return opened.get(key) or opened.setdefault(key, SharedPipeline(files, *more))

    def make(name: str, kind: str | None = None, **options) -> InpaintEditor:
        files = dataclasses.replace(find_pipeline("inpaint", str(twin(name)), None, download=False), kind=kind)
        maskless = name in ("instruct", "flux_kontext", "qwen_edit")
        made, of = (InstructEditor, InstructOptions) if maskless else (InpaintEditor, InpaintOptions)
        own = {**NONE, "strength": None, "steps": 2, "native_size": 64} | options
        return made("editor", files, of(**own), CPU, MemoryProfile(), share)

    return make


@pytest.fixture
def small_qwen(monkeypatch):
    """Qwen-Image-Edit works at the area of 1024 x 1024 pixels; here at that of 64 x 64."""
    module = importlib.import_module("diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_inpaint")
    inner = module.calculate_dimensions
    monkeypatch.setattr(module, "calculate_dimensions", lambda _, ratio: inner(64 * 64, ratio))
    monkeypatch.setitem(calling.UNSAID, "QwenImageEditInpaintPipeline", Unsaid(size=64))


def received(editor, request, monkeypatch) -> dict:
    """Arguments of the pipeline's call."""
    calls, cls = [], type(editor.pipe)
    inner = cls.__call__
    monkeypatch.setattr(cls, "__call__", lambda self, **told: calls.append(told) or inner(self, **told))
    editor.edit([request])
    return calls[0]


def far_apart(a, b) -> bool:
    return not torch.allclose(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("flux_fill", "FluxFillPipeline", {"guidance_scale": 7.0, "strength": 1.0, "height": 64}),
        ("flux_kontext", "FluxKontextPipeline", {"guidance_scale": 7.0, "true_cfg_scale": 1.0, "max_area": 64 * 64}),
        ("qwen_edit_inpaint", "QwenImageEditInpaintPipeline", {"true_cfg_scale": 7.0, "strength": 0.6}),
        ("instruct", "StableDiffusionInstructPix2PixPipeline", {"guidance_scale": 7.0, "image_guidance_scale": 1.5}),
        pytest.param(
            *("inpaint", "StableDiffusionXLInpaintPipeline", {"guidance_scale": 7.0, "strength": 0.9999, "width": 64}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_pipeline_gets_what_it_takes(editor, requested, monkeypatch, small_qwen, name, kind, told):
    made = editor(name, guidance=7.0)
    request = requested(0, negative_prompt="blurry", size=(48, 64))
    given = received(made, request, monkeypatch)
    assert made.facts()["pipeline"] == type(made.pipe).__name__ == kind
    expected = told | {"num_inference_steps": 2}
    assert {name: given[name] for name in expected} == expected
    assert not set(given) - set(made.call.defaults)
    assert ("mask_image" in given) == (name not in ("flux_kontext", "instruct"))
    (edit,) = made.edit([request])
    assert edit.shape == (3, 48, 64)
    assert torch.equal(made.edit([request])[0], edit)
    for field, value in {"prompt": "long blue hair", "seed": 9, "photo": request.photo.flip(2)}.items():
        assert not torch.equal(made.edit([dataclasses.replace(request, **{field: value})])[0], edit), field
    reads = name not in ("flux_fill", "flux_kontext")
    assert made.reads_negatives() == reads
    other = made.edit([dataclasses.replace(request, negative_prompt="dark and wet")])[0]
    assert torch.equal(other, edit) != reads
    assert ("ignored" in made.facts()) != reads
    assert ("reads no negative prompt" in (made.note(request) or "")) != reads


@pytest.mark.parametrize(
    "name",
    [
        "qwen_edit_inpaint",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("flux_fill", "flux_kontext", "instruct")),
    ],
)
def test_guidance_acts(editor, requested, small_qwen, name):
    request = requested(0, negative_prompt="blurry", size=(64, 64))
    weak, strong = (editor(name, guidance=g).edit([request])[0] for g in (1.5, 30.0))
    assert not torch.equal(weak, strong)


def test_a_true_scale_opens_flux_to_negative_prompts(editor, requested):
    request = requested(0, negative_prompt="blurry", size=(64, 64))
    made = editor("flux_kontext", true_cfg_scale=4.0)
    assert made.reads_negatives()
    assert "ignored" not in made.facts()
    edit = made.edit([request])[0]
    assert not torch.equal(made.edit([dataclasses.replace(request, negative_prompt="dark")])[0], edit)


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("flux_fill", {"true_cfg_scale": 3.0}, r"editor\.true_cfg_scale=3\.0: FluxFillPipeline takes none and would"),
        ("qwen_edit_inpaint", {"true_cfg_scale": 3.0}, "QwenImageEditInpaintPipeline editor.guidance is that scale"),
        ("qwen_edit_inpaint", {"native_size": 512}, r"native_size=512: QwenImageEditInpaintPipeline works at 1024 px"),
        ("flux_kontext", {"image_guidance": 2.0}, r"image_guidance=2\.0: FluxKontextPipeline takes none"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(editor, name, option, said):
    with pytest.raises(UserError, match=said):
        editor(name, **option)


def test_a_distilled_model_takes_no_guidance(editor, twin, tmp_path):
    folder = shutil.copytree(twin("flux_fill"), tmp_path / "distilled")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"is_distilled": True}))
    files = PipelineFiles(folder, find_pipeline("inpaint", str(folder), None, False).parts)
    assert call_of(files, masked=True).guidance is None
    with pytest.raises(UserError, match=r"editor\.guidance=5\.0: FluxFillPipeline takes none"):
        InpaintEditor(
            "inpaint", files, InpaintOptions(**{**NONE, "guidance": 5.0, "strength": None}), CPU, MemoryProfile()
        )


def test_what_the_pipeline_decides_is_in_the_record(editor):
    assert editor("flux_fill").facts()["numerics"]["pipeline_defaults"] == {"guidance": 30.0, "strength": 1.0}
    assert "pipeline_defaults" not in editor("flux_fill", guidance=30.0, strength=1.0).facts()["numerics"]


def test_own_sizes_are_those_that_models_were_trained_for(editor):
    assert editor("instruct", native_size=None).native_size == 64  # latents of 32, two pixels each
    assert editor("flux_fill", native_size=None).native_size == 1024


@pytest.mark.parametrize(
    ("name", "kind", "masked", "said"),
    [
        ("inpaint", "FluxFilPipeline", True, r"editor\.pipeline: diffusers [\d.]+ has no pipeline 'FluxFilPipeline'"),
        ("inpaint", "AutoencoderKL", True, r"editor\.pipeline: diffusers [\d.]+ has no pipeline 'AutoencoderKL'"),
        ("flux_kontext", None, True, "FluxKontextPipeline takes no mask; editor=instruct is for it"),
        ("sdxl_inpaint", None, False, "StableDiffusionXLInpaintPipeline takes a mask; editor=inpaint is for it"),
        (
            "inpaint",
            "StableDiffusionXLPipeline",
            True,
            "StableDiffusionXLPipeline takes no photo; editor.pipeline=CLASS",
        ),
        ("inpaint", "KandinskyV22InpaintPipeline", True, "KandinskyV22InpaintPipeline takes no prompt, which this"),
    ],
)
def test_a_class_that_does_not_serve_is_refused_before_weights_are_read(twin, name, kind, masked, said):
    files = dataclasses.replace(find_pipeline("inpaint", str(twin(name)), None, False), kind=kind)
    with pytest.raises(UserError, match=said):
        call_of(files, masked)


@pytest.mark.slow
def test_a_named_class_of_the_same_family_is_opened(editor, requested):
    made = editor("inpaint", kind="StableDiffusionXLInpaintPipeline")
    assert torch.equal(made.edit([requested(0)])[0], editor("inpaint").edit([requested(0)])[0])


INPAINTING = (
    "StableDiffusionInpaint StableDiffusionXLInpaint StableDiffusion3Inpaint FluxInpaint FluxFill FluxKontextInpaint "
    "Flux2KleinInpaint ChromaInpaint QwenImageInpaint QwenImageEditInpaint ZImageInpaint BriaFiboEdit"
).split()
MASKLESS = (
    "StableDiffusionInstructPix2Pix StableDiffusionXLInstructPix2Pix FluxKontext Flux2 Flux2Klein QwenImageEdit "
    "QwenImageEditPlus LongCatImageEdit JoyImageEdit OmniGen"
).split()


@pytest.mark.parametrize("name", [*INPAINTING, *MASKLESS])
def test_every_class_of_the_kind_can_be_called(twin, name):
    """Guidance, where nothing is distilled: real classifier-free guidance."""
    files = dataclasses.replace(find_pipeline("inpaint", str(twin("inpaint")), None, False), kind=f"{name}Pipeline")
    call = call_of(files, masked=name in INPAINTING)
    true = name.startswith(("Flux", "QwenImage")) and not name.startswith(("Flux2", "FluxFill"))
    assert call.guidance == ("true_cfg_scale" if true else "guidance_scale")


def test_an_instruction_is_made_of_attribute_and_prompt(editor, requested, monkeypatch):
    made = editor("instruct", instructions={"hair": "paint {attribute}: {look} ({prompt})"})
    request = requested(0, prompt="copper red hair, shiny", size=(64, 64))
    assert received(made, request, monkeypatch)["prompt"] == ["paint hair: copper red, shiny (copper red hair, shiny)"]
    assert "instruction: paint hair: copper red, shiny" in made.note(request)
    own = dataclasses.replace(request, instruction="cut it short")
    assert made.note(own).startswith("instruction: cut it short")
    assert not torch.equal(made.edit([own])[0], made.edit([request])[0])


def test_the_mask_has_no_say_in_what_a_maskless_model_makes(editor, requested):
    made = editor("instruct")
    here, there = (requested(0, box=box, size=(64, 64)) for box in ((0, 9, 0, 9), (20, 60, 20, 60)))
    edit = made.edit([here])[0]
    assert torch.equal(made.edit([there])[0], edit)
    assert (edit != here.photo)[:, 30:].any()


@pytest.fixture
def loras(tmp_path, editor):
    """Folder of LoRA files: for every attention of the SDXL twin, and for a layer that it does not have."""
    from safetensors.torch import save_file

    generator, pipe = torch.Generator().manual_seed(0), editor("inpaint").pipe
    state = {}
    for name, layer in pipe.unet.named_modules():
        if name.endswith(("to_q", "to_v")):
            for part, shape in (("A", (2, layer.in_features)), ("B", (layer.out_features, 2))):
                state[f"unet.{name}.lora_{part}.weight"] = torch.randn(shape, generator=generator)
    save_file(state, tmp_path / "sdxl.safetensors")
    save_file({f"unet.mid_block.other.{n}": x for n, x in list(state.items())[:2]}, tmp_path / "strange.safetensors")
    one = next(iter(state))
    save_file({one: torch.randn(2, 7), one.replace("_A", "_B"): torch.randn(7, 2)}, tmp_path / "shape.safetensors")
    save_file({"transformer.a.to_q.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "flux.safetensors")
    return tmp_path


def test_a_lora_changes_the_edit_by_its_weight(twin, loras, requested):
    files = find_pipeline("inpaint", str(twin("inpaint")), None, False)

    def made(lora: Lora | None) -> InpaintEditor:
        options = InpaintOptions(**{**NONE, "steps": 2, "native_size": 64, "strength": None})
        return InpaintEditor("inpaint", dataclasses.replace(files, lora=lora), options, CPU, MemoryProfile())

    full, none = (made(find_lora(str(loras / "sdxl.safetensors"), w)) for w in (1.0, 0.0))
    edits = [e.edit([requested(0)])[0] for e in (full, none, made(None))]
    assert far_apart(edits[0], edits[1])
    assert torch.allclose(edits[1], edits[2], rtol=0, atol=1e-5)  # a sum with zeros, in float32
    facts = full.facts()
    assert facts["lora"] == {"file": "sdxl.safetensors", "digest": full.files.lora.digest, "weight": 1.0}
    assert len({e.facts()["digest"] for e in (full, none, made(None))}) == 3


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "strange",
            r"lora=strange\.safetensors does not fit StableDiffusionXLInpaintPipeline: 2 of its tensors have no",
        ),
        (
            "flux",
            r"flux\.safetensors does not fit .*transformer\.a\.to_q\.lora_A\.weight'\); take a LoRA for its family",
        ),
        (
            "shape",
            r"shape\.safetensors does not fit StableDiffusionXLInpaintPipeline \(.*size mismatch.*\); take one for",
        ),
    ],
)
def test_a_lora_of_another_family_is_one_sentence(twin, loras, file, said):
    files = find_pipeline("inpaint", str(twin("inpaint")), None, False)
    files = dataclasses.replace(files, lora=find_lora(str(loras / f"{file}.safetensors"), 1.0))
    editor = InpaintEditor("inpaint", files, InpaintOptions(**{**NONE, "strength": None}), CPU, MemoryProfile())
    with pytest.raises(UserError, match=said):
        editor.prepare()


def test_a_lora_that_is_not_there_is_one_sentence(loras):
    with pytest.raises(UserError, match=r"editor\.lora=no/where: expected a \.safetensors file, or an id of the hub"):
        find_lora("no/where", 1.0)
    with pytest.raises(UserError, match=r"expected one \.safetensors file in the folder, got flux.*; name it"):
        find_lora(str(loras), 1.0)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("sdxl_lcm", {"scheduler": "lcm", "guidance": 1.0, "lora": "latent-consistency/lcm-lora-sdxl"}),
        ("sdxl_lightning", {"scheduler": "lightning", "steps": 8, "guidance": 1.0}),
        ("flux_fill", {"model": "black-forest-labs/FLUX.1-Fill-dev", "name": "inpaint"}),
        ("qwen_edit_inpaint", {"pipeline": "QwenImageEditInpaintPipeline"}),
        ("instruct_pix2pix", {"model": "timbrooks/instruct-pix2pix", "name": "instruct"}),
        ("flux_kontext", {"model": "black-forest-labs/FLUX.1-Kontext-dev", "name": "instruct"}),
        ("qwen_image_edit", {"model": "Qwen/Qwen-Image-Edit", "name": "instruct"}),
    ],
)
def test_presets_name_public_models_and_their_licence(compose, repository, choice, expected):
    settings = config.typed(compose("evaluate", "parser=ground_truth", f"editor={choice}"), config.EditingEvaluation)
    assert settings.editor.model_dump().items() >= expected.items()
    assert "licence" in (repository / "conf" / "editor" / f"{choice}.yaml").read_text().splitlines()[0]
    with pytest.raises(
        UserError, match=r"needs the pipeline \S+, which is neither|editor\.lora needs|editor\.lora=\S+: expected"
    ):
        open_editor(settings.editor, CPU, settings.weights, settings.runtime)


def test_a_run_of_a_maskless_editor_leads_with_raw_columns(compose, twin, tmp_path, capsys):
    words = "data=toy data.count=2 data.size=64 data.split=all parser=ground_truth metrics=no_weights strips=0"
    words += " attributes=[hair] runtime.device=cpu runtime.workers=0 editor=instruct editor.steps=1"
    settings = config.typed(
        compose("evaluate", *words.split(), f"weights.instruct={twin('instruct')}"), config.EditingEvaluation
    )
    assert tasks.start(settings, tmp_path) == 0
    shown = capsys.readouterr().out
    heading = shown.splitlines()[0]
    assert 0 < heading.index("SSIM raw") < heading.index("SSIM (up)")
    assert "instruction: make the hair natural brown, smooth and shiny, keep everything else (2 edits)" in shown
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["editor"]["maskless"]


def test_negatives_that_were_asked_for_are_not_left_out_silently(compose, twin, tmp_path):
    words = "data=toy data.count=1 data.size=64 data.split=all parser=ground_truth metrics=no_weights strips=0"
    words += " attributes=[hair] runtime.device=cpu runtime.workers=0 editor=instruct negatives=generic"
    cfg = compose("evaluate", *words.split(), f"weights.instruct={twin('flux_kontext')}")
    with pytest.raises(UserError, match=r"negatives=generic: editor 'instruct' as set reads no negative prompt"):
        tasks.start(config.typed(cfg, config.EditingEvaluation), tmp_path)


def test_a_task_file_may_say_the_instruction(compose, twin, tmp_path, capsys):
    file = tmp_path / "tasks.csv"
    lines = ["00000,hair,restyle,curly hair,,curl the hair", "00001,hair,restyle,curly hair,,"]
    file.write_text("\n".join(["sample_id,attribute,kind,prompt,target,instruction", *lines]) + "\n")
    words = "data=toy data.count=2 data.size=64 data.split=all parser=ground_truth metrics=no_weights strips=0"
    words += (
        f" attributes=[hair] runtime.device=cpu runtime.workers=0 editor=instruct editor.steps=1 prompts.file={file}"
    )
    settings = config.typed(
        compose("evaluate", *words.split(), f"weights.instruct={twin('instruct')}"), config.EditingEvaluation
    )
    assert tasks.start(settings, tmp_path / "run") == 0
    shown = capsys.readouterr().out
    assert "instruction: curl the hair (1 edits)" in shown
    assert "instruction: make the hair curly, keep everything else (1 edits)" in shown
    assert (tmp_path / "run" / "tasks.csv").read_text() == file.read_text()


@pytest.mark.parametrize(
    ("attribute", "template", "said"),
    [
        ("hair", "x {colour}", r"instructions\.hair: unknown placeholder \{colour\}; known: \{attribute\}, \{prompt\}"),
        ("beard", "x", "unknown attribute 'beard'"),
    ],
)
def test_a_template_is_checked_before_any_work(editor, attribute, template, said):
    with pytest.raises(UserError, match=said):
        editor("instruct", instructions={attribute: template})

"""``editor=``, ``runtime=`` and ``weights=`` of diffusion editors, from YAML to objects."""

import ast
import dataclasses

import pytest
import torch

from semfacediff import config
from semfacediff.cli import main
from semfacediff.editing.diffusion import InpaintOptions, MemoryProfile, tiny
from semfacediff.editing.diffusion.pipeline import chosen_dtype
from semfacediff.editing.opening import open_editor
from semfacediff.errors import UserError


@pytest.fixture
def typed(compose):
    """``typed(*overrides)``: the typed configuration of an editing run over toy faces."""
    return lambda *words: config.typed(compose("evaluate", "parser=ground_truth", *words), config.EditingEvaluation)


@pytest.mark.parametrize(("name", "size"), [("sdxl_inpaint", 1024), ("sd_inpaint", 512)])
def test_the_choices_say_what_the_thesis_did(typed, name, size):
    editor = typed(f"editor={name}").editor
    assert (editor.steps, editor.guidance, editor.strength, editor.native_size) == (50, 12.0, 0.9, size)
    assert editor.scheduler == "dpmsolver++"
    assert (editor.zoom, editor.dtype, editor.vae_dtype) == (False, "auto", "float32")


def test_defaults_in_code_and_in_yaml_are_one(typed):
    assert InpaintOptions() == InpaintOptions(
        **typed("editor=sdxl_inpaint").editor.model_dump(exclude={"name", "repeats", *config.OF_PIPELINE})
    )
    fields = [f.name for f in dataclasses.fields(MemoryProfile)]
    assert list(config.DiffusionRuntime.model_fields) == fields
    assert MemoryProfile() == MemoryProfile(**typed("runtime=default").runtime.diffusion.model_dump())


def test_the_profiles_differ_in_what_they_spend(typed):
    low, balanced, fast = (typed(f"runtime={name}").runtime for name in ("low_memory", "balanced", "fast"))
    assert low.batch_size == 1 < balanced.batch_size < fast.batch_size
    assert [r.diffusion.offload for r in (low, balanced, fast)] == ["model", "none", "none"]
    assert [r.diffusion.compile for r in (low, balanced, fast)] == [False, False, True]
    changes = [MemoryProfile(**r.diffusion.model_dump()).numerics() for r in (low, balanced, fast)]
    assert changes == [{"vae_tiling": tiles, "quantise": "none"} for tiles in (True, False, False)]
    assert {r.device for r in (low, balanced, fast)} == {"auto"}


@pytest.mark.parametrize(("strength", "steps"), [(0.3, 3), (0.01, 50), (0.09, 11)])
def test_a_strength_that_leaves_no_step_is_refused_before_any_work(typed, strength, steps):
    words = (
        f"editor.strength={strength} of editor.steps={steps} leaves no step to take; their product must be at least 1"
    )
    with pytest.raises(UserError, match=words):
        typed("editor=sdxl_inpaint", f"editor.strength={strength}", f"editor.steps={steps}")


@pytest.mark.parametrize(
    ("device", "auto"), [("cpu", torch.float32), ("cuda:1", torch.float16), ("mps", torch.float16)]
)
def test_precision_is_chosen_for_the_device(device, auto):
    assert chosen_dtype("auto", torch.device(device)) == auto
    assert chosen_dtype("bfloat16", torch.device(device)) == torch.bfloat16


def test_no_tensor_of_the_editors_is_float64(repository):
    """MPS has no float64."""
    for file in sorted((repository / "src" / "semfacediff" / "editing").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.float64", "torch.double")
            cast = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "double"
            assert not named, (file, node.lineno)
            assert not cast, (file, node.lineno)


def test_one_step_is_enough(typed):
    assert typed("editor=sdxl_inpaint", "editor.strength=0.1", "editor.steps=10").editor.steps == 10


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "editor.scheduler=ddpm",
            r"editor\.scheduler: input should be 'own', 'dpmsolver\+\+', 'ddim', 'euler', 'unipc'",
        ),
        ("editor.strength=0", r"editor\.strength: input should be greater than 0"),
        ("editor.guidance=-1", r"editor\.guidance: input should be greater than or equal to 0"),
        ("editor.zoom=much", r"editor\.zoom: input should be a valid boolean"),
        ("+editor.zoom_contxt=1", r"unknown key 'editor\.zoom_contxt'; did you mean 'zoom_context'\?"),
        ("runtime.diffusion.offload=all", r"runtime\.diffusion\.offload: input should be 'none' or 'model'"),
        ("+runtime.diffusion.compil=true", r"unknown key 'runtime\.diffusion\.compil'; did you mean 'compile'\?"),
        ("seam=glue", r"seam: input should be 'none', 'laplacian' or 'poisson'"),
    ],
)
def test_a_wrong_value_is_named(typed, word, message):
    with pytest.raises(UserError, match=message):
        typed("editor=sdxl_inpaint", word)


def test_a_seam_needs_a_composite(typed):
    with pytest.raises(UserError, match="seam=poisson joins edit and photo, and composite=off does not; set composite"):
        typed("protocol=thesis", "seam=poisson")
    assert typed("protocol=thesis", "seam=poisson", "composite=exact").seam == "poisson"


def test_profiles_and_places_do_not_make_another_run(typed):
    a = typed("editor=sdxl_inpaint")
    b = typed("editor=sdxl_inpaint", "runtime=low_memory", "weights.sdxl_inpaint=DIR")
    assert config.scientific(a) == config.scientific(b)
    assert config.scientific(a) != config.scientific(typed("editor=sdxl_inpaint", "editor.zoom=true"))
    assert config.scientific(a) != config.scientific(typed("editor=sdxl_inpaint", "seam=laplacian"))


def test_the_editor_that_is_built_is_the_one_described(typed, tiny_sdxl):
    words = (f"weights.root={tiny_sdxl}", "editor.native_size=64", "editor.guidance=3", "runtime=low_memory")
    settings = typed("editor=sd_inpaint", *words)
    editor, facts = open_editor(settings.editor, torch.device("cpu"), settings.weights, settings.runtime)
    assert editor.options == InpaintOptions(native_size=64, guidance=3)
    assert editor.memory == MemoryProfile(vae_slicing=True, vae_tiling=True, offload="model")
    assert (editor.name, editor.native_size, editor.batchable, editor.dtype) == ("sd_inpaint", 64, True, torch.float32)
    assert len(facts.pop("digest")) == 64
    assert facts == {
        "name": "sd_inpaint",
        "numerics": {"dtype": "float32", "vae_tiling": True, "quantise": "none"},
        "doubts": ["editor: random weights, for tests"],
        "pipeline": "StableDiffusionInpaintPipeline",
        "maskless": False,
    }


def test_without_weights_the_sentence_offers_what_needs_none(typed):
    settings = typed("editor=sdxl_inpaint", "weights.download=false")
    with pytest.raises(UserError, match=r"editor=sdxl_inpaint needs the pipeline .*; editor=recolor needs no weights"):
        open_editor(settings.editor, torch.device("cpu"), settings.weights, settings.runtime)


def test_doctor_makes_the_twins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tiny, "make_tiny", lambda folder: [folder / "sdxl_inpaint"])
    assert main(["doctor", "--make-tiny", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/sdxl_inpaint",
        f"their edits are noise; try: evaluate.py editor=sdxl_inpaint weights.root={tmp_path} editor.native_size=64",
    ]

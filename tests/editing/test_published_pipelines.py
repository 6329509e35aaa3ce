"""Pipelines in the files that the hub publishes: found and opened like any other, with the same edit.

The twins are saved as today's diffusers and transformers save. What is on the hub was saved by those of 2022 and 2023:
other names of files and keys, other tokenizer configurations.
"""

import functools
import json
import shutil
from pathlib import Path

import huggingface_hub
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from semfacediff import config, tasks
from semfacediff.editing.diffusion import PUBLIC_PIPELINES, InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline
from semfacediff.editing.opening import open_editor
from semfacediff.errors import UserError

COMMIT = "115134f363124c53c7d878647567d04daf26e41e"
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_MARKS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}


def publish_sdxl(twin: Path, folder: Path) -> Path:
    """SDXL inpainting: weights as they are beside the variant ``fp16``, old key names, old tokenizer files."""
    shutil.copytree(twin, folder)
    (folder / "random_weights.json").unlink()
    (folder / "README.md").write_text("---\nlicense: openrail++\n---\n")
    _index(folder, "0.21.0.dev0", drop=("feature_extractor", "image_encoder"))
    _rename_weights(folder / "text_encoder", _with_prefix)
    _tokenizer(folder / "tokenizer", pad="<|endoftext|>", as_objects=True)
    _tokenizer(folder / "tokenizer_2", pad="!", as_objects=False)
    for file in folder.glob("*/*.safetensors"):
        half = {k: v.half() for k, v in load_file(file).items()}
        save_file(half, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
    return folder


def publish_sd(twin: Path, folder: Path, threshold: float = -2.0) -> Path:
    """Stable Diffusion 1.5 inpainting with its safety checker, which blanks what is over ``threshold`` (-1..1).

    Text encoder and checker hold ``position_ids``, the VAE has the attention's first key names.
    """
    shutil.copytree(twin, folder)
    (folder / "random_weights.json").unlink()
    _index(
        folder,
        "0.6.0",
        drop=("image_encoder", "requires_safety_checker"),
        feature_extractor=["transformers", "CLIPFeatureExtractor"],
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
    )
    _rename_weights(folder / "text_encoder", _with_positions)
    _rename_weights(folder / "vae", _with_old_attention)
    _tokenizer(folder / "tokenizer", pad="<|endoftext|>", as_objects=True)
    (folder / "feature_extractor").mkdir()
    clip = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    switches = dict.fromkeys(("do_center_crop", "do_convert_rgb", "do_normalize", "do_resize"), True)
    sizes = {"crop_size": 224, "size": 224, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}
    _write(folder / "feature_extractor" / "preprocessor_config.json", clip | switches | sizes)
    _safety_checker(folder / "safety_checker", threshold)
    return folder


def to_cache(folder: Path, cache: Path, id_: str, keep=lambda file: True) -> Path:
    """The snapshot of ``folder`` in a hub cache: blobs, links to them, and the branch ``main``."""
    repository = cache / f"models--{id_.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "refs").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for i, file in enumerate(f for f in sorted(folder.rglob("*")) if f.is_file() and keep(f)):
        blob, link = repository / "blobs" / f"{i:040x}", snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(blob)
    return snapshot


def _safety_checker(folder: Path, threshold: float) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config=small, vision_config=small | {"patch_size": 32}, projection_dim=32)
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.save_pretrained(folder)

    def old(state: dict) -> dict:
        flat = {k.replace("vision_model.vision_model.", "vision_model."): v for k, v in state.items()}
        nested = {k.replace("vision_model.", "vision_model.vision_model."): v for k, v in flat.items()}
        return nested | {"vision_model.vision_model.embeddings.position_ids": torch.arange(50)[None]}

    _rename_weights(folder, old)


def _index(folder: Path, version: str, drop: tuple[str, ...], **entries) -> None:
    file = folder / "model_index.json"
    index = {k: v for k, v in json.loads(file.read_text()).items() if k not in drop}
    _write(file, index | {"_diffusers_version": version} | entries)


def _rename_weights(part: Path, rename) -> None:
    for file in part.glob("*.safetensors"):
        save_file(rename(load_file(file)), file, {"format": "pt"})


def _with_prefix(state: dict) -> dict:
    return {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in state.items()}


def _with_positions(state: dict) -> dict:
    return _with_prefix(state) | {"text_model.embeddings.position_ids": torch.arange(77)[None]}


def _with_old_attention(state: dict) -> dict:
    def old(key: str) -> str:
        for new, name in _OLD_ATTENTION.items():
            key = key.replace(f".{new}.", f".{name}.") if "attentions" in key else key
        return key

    return {old(k): v for k, v in state.items()}


def _tokenizer(part: Path, pad: str, as_objects: bool) -> None:
    """``vocab.json`` and ``merges.txt`` stay; the special tokens as transformers 4 wrote them, in one of two ways."""

    def token(text: str) -> dict:
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        return {"__type": "AddedToken", "content": text, **flags}

    marks = {k: token(v) for k, v in _MARKS.items()} if as_objects else dict(_MARKS)
    rest = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    rest |= {"pad_token": pad, "tokenizer_class": "CLIPTokenizer", "clean_up_tokenization_spaces": True}
    if not as_objects:
        added = {"0": "!", "49406": "<|startoftext|>", "49407": "<|endoftext|>"}
        decoder = {i: token(t) | {"special": True} for i, t in added.items()}
        rest["added_tokens_decoder"] = {i: {k: v for k, v in t.items() if k != "__type"} for i, t in decoder.items()}
    _write(part / "tokenizer_config.json", marks | rest)
    _write(part / "special_tokens_map.json", {**_MARKS, "pad_token": pad})


def _write(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")


def edit_of(files, request, **options):
    chosen = InpaintOptions(native_size=32, steps=3, **options)
    editor = InpaintEditor("editor", files, chosen, torch.device("cpu"), MemoryProfile())
    return editor, editor.edit([request])[0]


@pytest.fixture(scope="module")
def sdxl(tiny_sdxl, tmp_path_factory) -> Path:
    return publish_sdxl(tiny_sdxl / "sdxl_inpaint", tmp_path_factory.mktemp("published") / "sdxl")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache; the suite is offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_sdxls_published_files_give_the_twins_edit(sdxl, plain, requested):
    request = requested(0, negative_prompt="blurry")
    files = find_pipeline("sdxl_inpaint", str(sdxl), None, download=False)
    assert (files.variant(half=True), files.variant(half=False)) == ("fp16", None)
    editor, edit = edit_of(files, request)
    assert torch.equal(edit, plain.edit([request])[0])
    text = "matte dusty-rose lipstick"
    for ours, twins in zip(editor.tokenizers(), plain.tokenizers(), strict=True):
        assert (ours(text).input_ids, ours.pad_token, ours.model_max_length, len(ours)) == (
            *(twins(text).input_ids, twins.pad_token),
            *(77, 49408),
        )
        long = "word " * 90
        assert ours(long, truncation=True).input_ids == twins(long, truncation=True).input_ids


@pytest.mark.parametrize("way", ["folder", "root", "id", "cache"])
def test_every_way_to_name_a_published_pipeline_opens_it(sdxl, hub_cache, tmp_path, plain, requested, way):
    """In the cache lies what a download of the variant leaves: no weights but ``fp16``."""
    public = PUBLIC_PIPELINES["sdxl_inpaint"]
    explicit = {"folder": str(sdxl), "id": public}.get(way)
    root = None
    if way == "root":
        (tmp_path / public.partition("/")[2]).symlink_to(sdxl)
        root = str(tmp_path)
    if way in ("id", "cache"):
        kept = lambda f: f.suffix != ".safetensors" or ".fp16." in f.name  # noqa: E731
        snapshot = to_cache(sdxl, hub_cache, public, kept)
    files = find_pipeline("sdxl_inpaint", explicit, root, download=False)
    if way not in ("id", "cache"):
        assert files.variant(half=False) is None
        assert files.digest(half=False) == find_pipeline("sdxl_inpaint", str(sdxl), None, False).digest(half=False)
        return
    assert files.folder == snapshot
    assert files.variant(half=False) == "fp16"
    if way == "id":  # the same files
        return
    request = requested(0)
    _, edit = edit_of(files, request)
    # Weights were rounded to float16, 2^-11 relative; guidance 12 over two steps makes that 0.012 at most.
    assert 0 < (edit - plain.edit([request])[0]).abs().mean() < 0.02


@pytest.fixture(scope="module")
def sd(tiny_sdxl, tmp_path_factory):
    """``sd(threshold)``: Stable Diffusion 1.5 whose checker blanks above ``threshold``: -2 everything, 2 nothing."""

    @functools.cache
    def make(threshold: float) -> Path:
        return publish_sd(tiny_sdxl / "sd_inpaint", tmp_path_factory.mktemp("sd") / f"{threshold}", threshold)

    return make


def test_sds_published_files_give_the_twins_edit_unless_the_checker_blanks_it(sd, inpainter, requested):
    request = requested(0)
    expected = inpainter("sd_inpaint").edit([request])[0]
    files = find_pipeline("sd_inpaint", str(sd(2.0)), None, download=False)
    editor, edit = edit_of(files, request)
    assert torch.equal(edit, expected)
    state = load_file(files.folder / "safety_checker" / "model.safetensors")
    checker = editor.pipe.safety_checker
    name = "vision_model.vision_model.encoder.layers.0.mlp.fc1.weight"  # not drawn anew: the old names are known
    assert any(torch.equal(state[name], w) for w in checker.parameters() if w.shape == state[name].shape)

    files = find_pipeline("sd_inpaint", str(sd(-2.0)), None, download=False)
    with pytest.raises(UserError, match=r"checker blanked the edit; .* or set editor\.safety_checker=false"):
        edit_of(files, request)
    without = files.without("safety_checker")
    editor, edit = edit_of(without, request)
    assert editor.pipe.safety_checker is None
    assert torch.equal(edit, expected)
    assert without.digest(half=False) != files.digest(half=False)


def test_what_a_pipeline_lacks_is_not_left_out_of_it(sdxl):
    files = find_pipeline("sdxl_inpaint", str(sdxl), None, download=False)
    assert files.without("safety_checker") is files


def test_a_blanked_photo_is_a_failed_row_that_names_the_switch(sd, compose, tmp_path):
    words = "data=toy data.count=1 data.split=all parser=ground_truth editor=sd_inpaint metrics=no_weights strips=0"
    words += " attributes=[hair] runtime.device=cpu runtime.workers=0 editor.native_size=32 editor.steps=2"
    words += f" weights.sd_inpaint={sd(-2.0)}"

    def settings(*more: str) -> config.EditingEvaluation:
        return config.typed(compose("evaluate", *words.split(), *more), config.EditingEvaluation)

    assert tasks.start(settings(), tmp_path) == 1
    row = pd.read_parquet(tmp_path / "samples.parquet").iloc[0]
    assert row["status"] == "error"
    assert "set editor.safety_checker=false" in row["error"]
    off = settings("editor.safety_checker=false")
    editor, _ = open_editor(off.editor, torch.device("cpu"), off.weights, off.runtime)
    assert editor.files.left_out == ("safety_checker",)

"""Where pipelines are found, what they must hold, and their digest."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from semfacediff.editing.diffusion import InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline, tiny, weights
from semfacediff.editing.diffusion.weights import PipelineFiles, missing_pieces
from semfacediff.errors import UserError


@pytest.fixture
def copy(tiny_sdxl, tmp_path):
    """``copy(name="sdxl_inpaint")``: a twin's folder whose files may be removed or replaced (they are links)."""

    def make(name: str = "sdxl_inpaint") -> Path:
        return Path(shutil.copytree(tiny_sdxl / name, tmp_path / "root" / name, copy_function=os.link))

    return make


def found(folder, name="sdxl_inpaint"):
    return find_pipeline(name, str(folder), None, download=False)


def editor_of(files, **options):
    chosen = InpaintOptions(**({"native_size": 32, "steps": 2} | options))
    return InpaintEditor("sdxl_inpaint", files, chosen, torch.device("cpu"), MemoryProfile())


@pytest.mark.parametrize("name", ["sdxl_inpaint", "inpaint", "sd_inpaint"])
def test_the_root_names_a_pipeline_by_its_editor(tiny_sdxl, name):
    files = find_pipeline(name, None, str(tiny_sdxl), download=False)
    assert files.folder == tiny_sdxl / name
    assert files.doubts == ["editor: random weights, for tests"]


def test_the_root_names_a_pipeline_by_the_end_of_its_id(copy, tmp_path):
    folder = copy().rename(tmp_path / "root" / "stable-diffusion-xl-1.0-inpainting-0.1")
    assert find_pipeline("sdxl_inpaint", None, str(tmp_path / "root"), download=False).folder == folder
    assert find_pipeline("inpaint", "someone/" + folder.name, str(folder.parent), download=False).folder == folder


def test_an_explicit_folder_comes_first(copy, tiny_sdxl):
    folder = copy()
    assert find_pipeline("sdxl_inpaint", str(folder), str(tiny_sdxl), download=False).folder == folder


def test_then_comes_the_hubs_cache_and_last_a_download(copy, tiny_sdxl, tmp_path, monkeypatch):
    asked, whole = [], tiny_sdxl / "sdxl_inpaint"
    monkeypatch.setattr(weights, "cached_folder", lambda id_: asked.append(("cache", id_)))
    monkeypatch.setattr(weights, "get", lambda name, _: asked.append(("download", name)) or whole)
    public = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
    assert find_pipeline("sdxl_inpaint", None, str(tmp_path), download=True).folder == whole
    assert asked == [("cache", public), ("download", "sdxl_inpaint")]
    with pytest.raises(UserError):
        find_pipeline("sdxl_inpaint", "a/b", None, download=False)
    assert asked[2:] == [("cache", "a/b")]


@pytest.mark.parametrize(
    ("name", "explicit", "root", "download", "message"),
    [
        (
            "sdxl_inpaint",
            None,
            None,
            False,
            r"editor=sdxl_inpaint needs the pipeline diffusers/stable-diffusion-xl-1\.0-inpainting-0\.1, which is "
            r"neither at weights\.root nor in the hub's cache, and weights\.download is off; fetch it with "
            r"'semfacediff fetch sdxl_inpaint', or set weights\.sdxl_inpaint=FOLDER; editor=recolor needs no weights",
        ),
        (
            "sd_inpaint",
            None,
            "/nowhere",
            True,
            r"stable-diffusion-v1-5/\S+, which is .*could not be downloaded \(stable-\S+ HF_HUB_OFFLINE or ",
        ),
        ("sdxl_inpaint", "/no/such/folder", None, True, r"weights\.sdxl_inpaint: no folder at /no/such/folder"),
        ("sdxl_inpaint", "~nobody/x", None, True, r"no folder at ~nobody/x; name a pipeline's folder or hub id"),
        (
            "inpaint",
            None,
            None,
            True,
            r"editor=inpaint opens any .* name one with weights\.inpaint=FOLDER\|ID; editor=re",
        ),
        ("inpaint", None, "/nowhere", True, r"or a folder 'inpaint' at weights\.root; editor=recolor needs no weights"),
    ],
)
def test_a_miss_is_one_sentence_with_ways_out(name, explicit, root, download, message):
    with pytest.raises(UserError, match=message) as e:  # offline: the hub answers at once
        find_pipeline(name, explicit, root, download)
    assert "\n" not in str(e.value)


def empty(file):
    file.unlink()
    file.touch()


def pointer(file):
    file.unlink()
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10270077736\n")


@pytest.mark.parametrize(
    ("piece", "damage", "named"),
    [
        ("model_index.json", Path.unlink, "model_index.json"),
        ("unet/diffusion_pytorch_model.safetensors", Path.unlink, "unet/ weights (.safetensors)"),
        ("unet/diffusion_pytorch_model.safetensors", pointer, "unet/diffusion_pytorch_model.safetensors"),
        ("text_encoder_2/model.safetensors", empty, "text_encoder_2/model.safetensors"),
        ("vae/config.json", Path.unlink, "vae/config.json"),
        ("scheduler/scheduler_config.json", Path.unlink, "scheduler/scheduler_config.json"),
        ("tokenizer/merges.txt", Path.unlink, "tokenizer/merges.txt"),
        ("tokenizer_2/vocab.json", Path.unlink, "tokenizer_2/tokenizer.json"),
        ("tokenizer/tokenizer_config.json", Path.unlink, "tokenizer/tokenizer_config.json"),
        ("vae", shutil.rmtree, "vae/config.json, vae/ weights (.safetensors)"),
    ],
)
def test_what_a_folder_lacks_is_named(copy, piece, damage, named):
    folder = copy()
    damage(folder / piece)
    with pytest.raises(UserError, match=r"copy or fetch it whole; editor=recolor needs no weights$") as e:
        found(folder)
    assert f"lacks {named};" in str(e.value)


def test_missing_shards_are_named(copy):
    folder = copy()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "model-1-of-2.safetensors")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert missing_pieces(folder) == ["unet/model-2-of-2.safetensors"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": [1]}'])
def test_an_index_of_shards_that_is_none_is_named(copy, text):
    folder = copy()
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"safetensors\.index\.json: not the index of a part's weights \(.*\); copy it"):
        found(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"unet": []}'])
def test_an_index_that_is_none_is_named(copy, text):
    folder = copy()
    (folder / "model_index.json").unlink()
    (folder / "model_index.json").write_text(text)
    with pytest.raises(UserError, match=r"model_index\.json: not the index of a pipeline"):
        found(folder)


def test_damaged_weights_are_one_sentence(copy):
    folder = copy()
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"sdxl_inpaint: the pipeline cannot be opened \(.*\); copy it again") as e:
        editor_of(found(folder)).prepare()
    assert "\n" not in str(e.value)


def test_a_pipeline_that_paints_nothing_in_is_refused(copy):
    folder = copy()
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": "DDPMPipeline"}
    (folder / "model_index.json").unlink()
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"DDPMPipeline takes no photo; editor\.pipeline=CLASS names another"):
        editor_of(found(folder)).prepare()


def as_fp16(folder, keep=()):
    """Rename weights to the variant ``fp16``, except those of the parts in ``keep``."""
    for file in folder.glob("*/*.safetensors"):
        if file.parent.name not in keep:
            file.rename(file.with_suffix(".fp16.safetensors"))


def test_the_variant_is_the_one_that_is_there(copy, requested):
    folder = copy()
    files, plain_edit = found(folder), editor_of(found(folder)).edit([requested(0)])[0]
    assert files.variant(half=True) is None
    as_fp16(folder)
    assert (found(folder).variant(True), found(folder).variant(False)) == ("fp16", "fp16")
    assert torch.equal(editor_of(found(folder)).edit([requested(0)])[0], plain_edit)
    half = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    for file in folder.glob("*/*.fp16.safetensors"):
        shutil.copy(file, file.parent / file.name.replace(".fp16", ""))
    both = found(folder)
    assert (both.variant(True), both.variant(False)) == ("fp16", None)
    before = both.digest(True), both.digest(False)
    data = bytearray(half.read_bytes())
    data[-1] ^= 1
    half.unlink()
    half.write_bytes(data)
    assert both.digest(True) != before[0]
    assert both.digest(False) == before[1]


def test_the_digest_is_of_what_is_loaded(copy, tiny_sdxl):
    folder = copy()
    files = PipelineFiles(folder, found(folder).parts)
    digest = files.digest(False)
    assert digest == found(tiny_sdxl / "sdxl_inpaint").digest(False)  # wherever it lies
    assert digest != found(tiny_sdxl / "inpaint", "inpaint").digest(False)
    (folder / "README.md").write_text("words")
    (folder / "unet" / "notes.md").write_text("words")
    assert files.digest(False) == digest
    config = folder / "scheduler" / "scheduler_config.json"
    text = config.read_text().replace("0.012", "0.013")
    config.unlink()
    config.write_text(text)
    assert files.digest(False) != digest


def test_twins_are_written_over_twins_only(copy, monkeypatch):
    folder = copy()
    (folder / weights.TWIN_MARK).unlink()
    with pytest.raises(UserError, match=r"sdxl_inpaint exists and is no tiny pipeline; name another folder"):
        tiny.make_tiny(folder.parent)


def test_twins_are_the_same_on_every_machine(tiny_sdxl, tmp_path, monkeypatch):
    drawn = tiny._unet(9, cross_attention_dim=32)
    before = torch.random.get_rng_state()
    monkeypatch.setattr(tiny, "_sdxl", lambda channels: tiny._vae(0.13025, True))
    monkeypatch.setattr(tiny, "_sd", lambda: drawn)
    monkeypatch.setattr(tiny, "publish_tokenizers", lambda folder: None)
    (made, *_), (again, *_) = tiny.make_tiny(tmp_path / "a"), tiny.make_tiny(tmp_path / "b")
    file = "diffusion_pytorch_model.safetensors"
    assert (made / file).read_bytes() == (again / file).read_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)

"""CLIP's published layouts: OpenAI's TorchScript archive, open_clip's copy on the hub, transformers' ``CLIPModel``."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from semfacediff.metrics import weights
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.clip_layouts import as_openai, tensor_digest
from semfacediff.metrics.weights import CLIP_MODEL, CLIP_VIT_B_32, find, find_clip

WORDS, TOKENS, END = 100, 10, 99
NUMBERS = {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
TINY = {
    "projection_dim": 16,
    "text_config": {
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": WORDS,
        "max_position_embeddings": TOKENS,
        "eos_token_id": END,
    },
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "image_size": 32,
        "patch_size": 16,
    },
}


class Node(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def archive(state: dict[str, torch.Tensor], file: Path) -> Path:
    """A TorchScript program that holds ``state`` under its dotted names, as OpenAI publishes it."""
    root = Node()
    for name, values in state.items():
        *parents, last = name.split(".")
        node = root
        for parent in parents:
            if parent not in node._modules:
                node.add_module(parent, Node())
            node = node._modules[parent]
        node.register_buffer(last, values)
    torch.jit.script(root).save(str(file))
    return file


def of_transformers(folder: Path, settings: dict) -> Path:
    """An untrained ``CLIPModel`` whose values half precision can hold, saved by transformers."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = transformers.CLIPModel(transformers.CLIPConfig(**settings))
        for values in net.parameters():  # none stays at zeros or ones, so that no mix-up is unseen
            values.data += 0.02 * torch.randn(values.shape)
    net.half().float().save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> dict[str, Path]:
    """The same tensors in the files of the three publishers."""
    folder = tmp_path_factory.mktemp("layouts")
    theirs = of_transformers(folder, TINY)
    state = {name: values.contiguous() for name, values in as_openai(load_file(theirs)).items()}
    save_file(state, folder / "open_clip_model.safetensors")
    torch.save(load_file(theirs), folder / "pytorch_model.bin")
    halves = {name: values if "ln_" in name else values.half() for name, values in state.items()}
    return {
        "ViT-B-32.pt": archive(halves | NUMBERS, folder / "ViT-B-32.pt"),
        "open_clip_model.safetensors": folder / "open_clip_model.safetensors",
        "model.safetensors": theirs,
        "pytorch_model.bin": folder / "pytorch_model.bin",
    }


@torch.inference_mode()
def test_transformers_layout_computes_the_same_in_open_clip(layouts):
    reference = transformers.CLIPModel.from_pretrained(layouts["model.safetensors"].parent).eval()
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 64}
    text = {"context_length": TOKENS, "vocab_size": WORDS, "width": 32, "heads": 2, "layers": 2}
    net = open_clip.CLIP(16, vision, text, quick_gelu=True).eval()
    net.load_state_dict(as_openai(load_file(layouts["model.safetensors"])))
    generator = torch.Generator().manual_seed(0)
    photos = torch.randn(3, 3, 32, 32, generator=generator)
    words = torch.randint(1, END, (3, TOKENS), generator=generator)
    words[:, -1] = END
    for ours, theirs in (
        (net.encode_image(photos), reference.get_image_features(photos)),
        (net.encode_text(words), reference.get_text_features(words)),
    ):
        theirs = getattr(theirs, "pooler_output", theirs)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert ours.std(0).min() > 1e-3  # the photos and the prompts differ


@pytest.fixture
def published(layouts, tmp_path, monkeypatch):
    """``(weights, put)``: CLIP's entry with the digests of the tiny files; ``put`` copies one into its empty cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    files = [
        replace(f, size=layouts[f.file].stat().st_size, sha256=hashlib.sha256(layouts[f.file].read_bytes()).hexdigest())
        for f in CLIP_VIT_B_32.files
    ]
    tiny = replace(CLIP_VIT_B_32, files=tuple(files))
    monkeypatch.setattr(weights, "CLIP_VIT_B_32", tiny)

    def put(file) -> Path:
        folder = tmp_path / "home" / ".cache" / "clip"
        if file.hub:
            folder = tmp_path / "hub" / f"models--{file.hub.replace('/', '--')}" / "snapshots" / "abc"
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(layouts[file.file], folder / file.file))

    return tiny, put


@pytest.mark.parametrize("number", range(4), ids=[f.file for f in CLIP_VIT_B_32.files])
def test_every_public_copy_is_found_in_its_librarys_cache_and_comparable(published, layouts, number):
    tiny, put = published
    place = put(tiny.files[number])
    assert weights.find_local(tiny, None) == place
    found = find_clip(CLIP_MODEL, None, None, download=False)
    assert found.comparable
    assert found.name == f"tensors:{tensor_digest(as_openai(load_file(layouts['model.safetensors'])))}"
    place.unlink()
    place.symlink_to("gone")
    assert weights.find_local(tiny, None) is None


def test_every_public_copy_is_found_at_weights_root_and_by_its_folder(published, layouts, tmp_path):
    tiny, _ = published
    names = set()
    for number, file in enumerate(tiny.files):
        root = tmp_path / f"root{number}"
        (root / file.below_root).parent.mkdir(parents=True)
        shutil.copy(layouts[file.file], root / file.below_root)
        for explicit, place in ((None, str(root)), (str((root / file.below_root).parent), None)):
            found = find(tiny, explicit, place, download=False)
            assert found.comparable
            names.add(found.name)
    assert len(names) == 1
    assert (tmp_path / "root1/vit_base_patch32_clip_224.openai/open_clip_model.safetensors").is_file()


def test_another_file_with_the_same_tensors_counts_where_a_public_copy_vouches_for_it(published, layouts, tmp_path):
    tiny, put = published
    state = as_openai(load_file(layouts["model.safetensors"]))
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "saved_again.pth")
    found = find(tiny, str(tmp_path / "saved_again.pth"), None, download=False)
    assert not found.comparable
    put(tiny.files[0])
    vouched = find(tiny, str(tmp_path / "saved_again.pth"), None, download=False)
    assert (vouched.comparable, vouched.name) == (True, found.name)
    state["visual.proj"] = state["visual.proj"].clone()
    state["visual.proj"][0, 0] += 2**-10
    torch.save(state, tmp_path / "tuned.pth")
    tuned = find(tiny, str(tmp_path / "tuned.pth"), None, download=False)
    assert not tuned.comparable
    assert tuned.name != found.name


def test_a_copy_of_its_published_size_comes_before_one_that_is_cut_short(published):
    tiny, put = published
    cut = put(tiny.files[0])
    cut.write_bytes(cut.read_bytes()[:1000])
    assert weights.find_local(tiny, None) == cut
    whole = put(tiny.files[2])
    assert weights.find_local(tiny, None) == whole
    assert find(tiny, None, None, download=False).comparable


def test_the_digest_is_of_names_shapes_and_values_alone():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3), "logit_scale": torch.tensor(4.6)}
    digest = tensor_digest(state)
    by_hand = b"a (2, 3)\n" + state["a"].numpy().astype("<f4").tobytes() + b"b (3,)\n" + b"\0\0\x80\x3f" * 3
    assert digest == hashlib.sha256(by_hand).hexdigest()
    assert tensor_digest(dict(reversed(state.items()))) == digest
    assert tensor_digest({k: v.half() for k, v in state.items()}) == digest
    assert tensor_digest(state | {"logit_scale": torch.tensor(1.0)}) == digest
    assert tensor_digest(state | {"a": state["a"].T.contiguous().T}) == digest
    assert tensor_digest(state | {"a": state["a"].reshape(3, 2)}) != digest
    assert tensor_digest({"a": state["a"], "c": state["b"]}) != digest


@pytest.mark.slow
def test_full_size_the_metric_is_the_same_from_every_copy(tmp_path, pair, monkeypatch):
    theirs = of_transformers(tmp_path, {})  # transformers' defaults are ViT-B/32's
    state = as_openai(load_file(theirs))
    assert sum(values.numel() for values in state.values()) == 151_277_313
    halves = {name: values if "ln_" in name else values.half() for name, values in state.items()}
    program = archive(halves | NUMBERS, tmp_path / "ViT-B-32.pt")
    save_file({name: values.contiguous() for name, values in state.items()}, tmp_path / "open_clip_model.safetensors")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    files = (replace(CLIP_VIT_B_32.files[0], sha256=digest), *CLIP_VIT_B_32.files[1:])
    monkeypatch.setattr(weights, "CLIP_VIT_B_32", replace(CLIP_VIT_B_32, files=files))
    scores, names = [], set()
    for file in (program, theirs, tmp_path / "open_clip_model.safetensors"):
        found = find_clip(CLIP_MODEL, str(file), None, download=False)
        metric = CLIP(CLIP_MODEL, found.state, found.name, torch.device("cpu"))
        scores.append(metric.score(replace(pair(), prompt="red lips"))["clip"])
        names.add(found.name)
    assert len(names) == 1
    assert scores == [scores[0]] * 3

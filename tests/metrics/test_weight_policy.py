"""Weights of CLIP and Inception: where they are looked for, and what may be opened."""

import hashlib
import re
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants

from semfacediff.downloads import RemoteFile
from semfacediff.errors import UserError
from semfacediff.metrics import weights
from semfacediff.metrics.weights import (
    CLIP_MODEL,
    CLIP_VIT_B_32,
    INCEPTION,
    LPIPS_ALEXNET,
    PUBLIC,
    MissingWeightsError,
    find,
    find_clip,
    find_local,
)


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """Empty caches, whatever this machine has; and no way out to the network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(weights, "get", lambda *_: pytest.fail("went to the network"))


def saved(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"x": torch.tensor(float(value))}, file)
    return file


@pytest.mark.parametrize("public", PUBLIC, ids=lambda p: p.key)
def test_order_is_explicit_then_root_then_the_librarys_cache_then_download(public, tmp_path, monkeypatch):
    file = public.files[0]
    explicit, root = saved(tmp_path / "mine.pth", 1), saved(tmp_path / "root" / file.file, 2).parent
    (place,) = file.kept()
    kept = saved(place, 3)

    def value(explicit, root, download=False):
        return find(public, explicit and str(explicit), root and str(root), download).state["x"].item()

    assert value(explicit, root) == 1
    assert value(None, root) == 2
    assert value(None, tmp_path / "elsewhere") == 3
    kept.unlink()
    asked = []
    monkeypatch.setattr(weights, "get", lambda name, sources: asked.append((name, sources[-1]())) or saved(place, 4))
    assert value(None, None, download=True) == 4
    assert asked == [(public.key, RemoteFile(file.url, place, file.sha256, file.size))]


def test_each_library_has_its_own_cache(tmp_path):
    assert LPIPS_ALEXNET.files[0].kept() == [tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"]
    assert INCEPTION.files[0].kept() == [tmp_path / "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"]
    assert CLIP_VIT_B_32.files[0].kept() == [tmp_path / "home/.cache/clip/ViT-B-32.pt"]


@pytest.mark.parametrize("public", PUBLIC, ids=lambda p: p.key)
def test_a_miss_is_one_sentence_with_everything(public):
    with pytest.raises(MissingWeightsError) as e:
        find(public, None, None, download=False)
    file = public.files[0]
    for part in (f"weights.{public.key}: {file.file} (", " MB, SHA-256 ", file.sha256[:8], "weights.root"):
        assert part in str(e.value)
    for part in (
        f"'semfacediff fetch {public.key}'",
        f"weights.{public.key}=FILE",
        "metrics.on_missing=skip",
        "weights.download is off",
    ):
        assert part in str(e.value)
    assert find_local(public, None) is None


def test_truncated_files_tell_their_size(tmp_path):
    file = saved(tmp_path / INCEPTION.files[0].file, 1)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(
        UserError, match=r"not a readable weights file .* has 95,628,359 bytes, this file 300; remove it and fetch"
    ):
        find(INCEPTION, None, str(tmp_path), download=False)


def test_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.tensor([7.0])}, tmp_path / "w.safetensors")
    found = find(INCEPTION, str(tmp_path / "w.safetensors"), None, download=False)
    assert found.state["x"].item() == 7
    assert not found.comparable


def test_another_architecture_needs_its_own_file_and_is_never_comparable(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no public file is known for metrics\.clip\.model=RN50; set "):
        find_clip("RN50", None, None, download=True)
    file = saved(tmp_path / "mine.pth", 1)
    assert find_clip("RN50", str(file), None, download=False).name.startswith("tensors:")
    assert not find_clip("RN50", str(file), None, download=False).comparable
    with pytest.raises(MissingWeightsError, match=r"ViT-B-32\.pt \(354 MB, SHA-256 40d36571\.\.\.\)"):
        find_clip(CLIP_MODEL, None, None, download=False)


def test_a_program_is_opened_only_if_it_is_the_public_file(tmp_path, monkeypatch):
    """OpenAI's file is a TorchScript archive."""
    file = tmp_path / "scripted.pt"
    torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2)).save(str(file))
    opened = []
    load = torch.jit.load
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: opened.append(a) or load(*a, **k))
    with pytest.raises(UserError, match=r"scripted\.pt: a TorchScript program, and not the public ViT-B-32\.pt"):
        find(CLIP_VIT_B_32, str(file), None, download=False)
    assert opened == []
    original = replace(CLIP_VIT_B_32.files[0], sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(weights, "CLIP_VIT_B_32", replace(CLIP_VIT_B_32, files=(original,)))
    found = find_clip(CLIP_MODEL, str(file), None, download=False)
    assert found.state["weight"].shape == (3, 2)
    assert found.comparable


def test_public_files_have_whole_digests_and_those_in_their_names_agree():
    files = [file for public in PUBLIC for file in public.files]
    assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in files)
    assert len({file.sha256 for file in files}) == len(files)
    for file in files:
        assert bool(file.url) != bool(file.hub)
        if file.url:
            assert file.url.endswith(f"/{file.file}")
            assert file.sha256[:8] in file.url
    assert LPIPS_ALEXNET.files[0].sha256.startswith("7be5be791159")
    assert INCEPTION.files[0].sha256.startswith("6726825d0af5")
    assert (LPIPS_ALEXNET.files[0].size, INCEPTION.files[0].size) == (244_408_911, 95_628_359)

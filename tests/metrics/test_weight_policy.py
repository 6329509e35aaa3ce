"""Weights of CLIP and Inception: where they are looked for, and what may be opened."""

import hashlib
from dataclasses import replace

import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.metrics import weights
from semfacediff.metrics.weights import (
    CLIP_MODEL,
    CLIP_VIT_B_32,
    INCEPTION,
    LPIPS_ALEXNET,
    PUBLIC,
    MissingWeightsError,
    cached,
    find,
    find_clip,
    located,
)


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """Empty caches, whatever this machine has; and no way out to the network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("went to the network"))


def saved(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"x": torch.tensor(float(value))}, file)
    return file


@pytest.mark.parametrize("public", PUBLIC, ids=lambda p: p.key)
def test_order_is_explicit_then_root_then_the_librarys_cache_then_download(public, tmp_path, monkeypatch):
    explicit, root = saved(tmp_path / "mine.pth", 1), saved(tmp_path / "root" / public.file, 2).parent
    kept = saved(cached(public), 3)

    def value(explicit, root, download=False):
        return find(public, explicit and str(explicit), root and str(root), download).state["x"].item()

    assert value(explicit, root) == 1
    assert value(None, root) == 2
    assert value(None, tmp_path / "elsewhere") == 3
    kept.unlink()
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a: asked.append(a) or saved(cached(public), 4))
    assert value(None, None, download=True) == 4
    assert asked == [(public.url, str(cached(public)), public.sha256_prefix)]


def test_each_library_has_its_own_cache(tmp_path):
    assert cached(LPIPS_ALEXNET) == tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    assert cached(INCEPTION) == tmp_path / "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"
    assert cached(CLIP_VIT_B_32) == tmp_path / "home/.cache/clip/ViT-B-32.pt"


@pytest.mark.parametrize("public", PUBLIC, ids=lambda p: p.key)
def test_a_miss_is_one_sentence_with_everything(public):
    with pytest.raises(MissingWeightsError) as e:
        find(public, None, None, download=False)
    for part in (f"weights.{public.key}: {public.file} (", " MB, SHA-256 ", public.sha256_prefix[:8], "weights.root"):
        assert part in str(e.value)
    for part in (f"weights.{public.key}=FILE", "metrics.on_missing=skip", "weights.download is off"):
        assert part in str(e.value)
    assert located(public, None) is None


def test_truncated_files_tell_their_size(tmp_path):
    file = saved(tmp_path / INCEPTION.file, 1)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UserError, match=r"not a readable weights file .* has 95,628,359 bytes, this file 300"):
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
    public = hashlib.sha256(file.read_bytes()).hexdigest()
    assert find_clip("RN50", str(file), None, download=False).name == f"sha256:{public}"
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
    public = replace(CLIP_VIT_B_32, sha256_prefix=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setattr(weights, "CLIP_VIT_B_32", public)
    found = find_clip(CLIP_MODEL, str(file), None, download=False)
    assert found.state["weight"].shape == (3, 2)
    assert found.comparable


def test_public_files_are_named_by_their_digest():
    for public in PUBLIC:
        assert public.sha256_prefix[:8] in (public.file if public is not CLIP_VIT_B_32 else public.url)
        assert public.url.endswith(public.file)

"""Repositories of a model hub: a small one on this machine in the place of the real one."""

import hashlib
import json

import pytest
from huggingface_hub import constants

from semfacediff.downloads import DownloadError
from semfacediff.hub import cached_files, cached_folder, hub_source, is_whole_model

ID = "someone/face-model"
WEIGHTS = bytes(range(256)) * 30
MODEL = {
    "config.json": b'{"model_type": "segformer"}',
    "preprocessor_config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": WEIGHTS + b"pickled",
    "tf_model.h5": b"h5",
    "onnx/model.onnx": b"onnx",
    "README.md": b"words",
}
PARTS = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
INDEX = {"_class_name": "StableDiffusionInpaintPipeline", "safety_checker": [None, None], **PARTS}


@pytest.fixture
def model(site, monkeypatch):
    site.repository(ID, MODEL)
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    return hub_source(ID)


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_of_a_model_come_configuration_and_weights_from_the_mirror_that_hf_endpoint_names(model, site):
    order = model()
    assert str(order) == (
        f"3 files of {ID}, 0.0 MB, from {site.address} to {constants.HF_HUB_CACHE}/models--someone--face-model"
    )
    assert not any(path.endswith("safetensors") for _, path, _ in site.asked)
    folder = order.fetch()
    assert names(folder) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert cached_folder(ID) == folder
    assert is_whole_model(folder)
    assert cached_files(ID, "model.safetensors") == [folder / "model.safetensors"]


def test_without_safetensors_the_pickle_comes(site, monkeypatch):
    site.repository(ID, {name: content for name, content in MODEL.items() if name != "model.safetensors"})
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    folder = hub_source(ID)().fetch()
    assert "pytorch_model.bin" in names(folder)
    assert is_whole_model(folder)


@pytest.mark.parametrize("missing", ["config.json", "weights"])
def test_a_repository_of_another_kind_is_refused(site, monkeypatch, missing):
    site.repository(
        ID, {n: c for n, c in MODEL.items() if n != missing and (missing != "weights" or "model." not in n)}
    )
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    if missing == "weights":
        site.repository(ID, {"config.json": b"{}", "model.onnx": b"onnx"})
    with pytest.raises(DownloadError, match=r"neither model_index\.json nor config\.json with weights"):
        hub_source(ID)()


PIPELINE = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "unet/diffusion_pytorch_model.safetensors": b"full",
    "unet/diffusion_pytorch_model.bin": b"pickled",
    "unet/diffusion_pytorch_model.non_ema.safetensors": b"other",
    "unet/model.onnx": b"onnx",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors": b"1",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors": b"2",
    "vae/diffusion_pytorch_model.safetensors.index.json": b"{}",
    "vae_old/config.json": b"{}",
    "safety_checker/model.safetensors": b"unused",
    "sd-v1-5.ckpt": b"pickled",
}


def test_of_a_pipeline_come_its_parts_in_half_precision_where_there_is_one(site, monkeypatch):
    site.repository(ID, PIPELINE)
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    assert names(hub_source(ID)().fetch()) == [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
        "vae/diffusion_pytorch_model.safetensors.index.json",
    ]


def test_a_revision_and_named_files_with_their_digests(site, monkeypatch):
    site.repository(ID, MODEL)
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    commit = next(path for path in site.files if path.endswith("config.json")).split("/")[4]
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    folder = hub_source(f"{ID}@{commit}", {"model.safetensors": digest})().fetch()
    assert names(folder) == ["model.safetensors"]
    assert cached_folder(ID) == folder  # the only snapshot
    assert cached_folder(ID, commit) == folder
    with pytest.raises(
        DownloadError, match=rf"gave model\.safetensors with SHA-256 {digest[:16]}\.\.\., expected 0000"
    ):
        hub_source(f"{ID}@{commit}", {"model.safetensors": "0" * 64})().fetch()
    assert names(folder) == []
    with pytest.raises(DownloadError, match=r"gone\.safetensors did not arrive"):
        hub_source(f"{ID}@{commit}", {"gone.safetensors": "0" * 64})().fetch()


def test_of_a_repository_of_several_models_comes_one_folder(site, monkeypatch):
    site.repository(ID, {"a_512/model_299.pt": b"a", "a_512/more.txt": b"b", "a_51/model_299.pt": b"c", "x.md": b"d"})
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    for place in (f"{ID}/a_512", f"{ID}@main/a_512"):
        folder = hub_source(place)().fetch()
        assert names(folder) == ["a_512/model_299.pt", "a_512/more.txt"]
        assert cached_folder(ID) == folder
    with pytest.raises(DownloadError, match=rf"^{ID}: it has no folder a; fetch"):
        hub_source(f"{ID}/a")()


def test_an_interrupted_snapshot_is_completed(model, site, faults):
    folder = model().fetch()
    (folder / "model.safetensors").resolve().unlink()  # a dangling link stays
    (folder / "config.json").unlink()
    assert cached_folder(ID) == folder
    assert not is_whole_model(folder)
    assert cached_files(ID, "model.safetensors") == []
    order = model()
    assert "0.0 MB (0.0 MB of it are here)" in str(order)
    order.fetch()
    assert names(folder) == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_a_dropped_connection_is_resumed(site, faults, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # a chunk that did not arrive whole is asked for again
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    site.repository(ID, {"config.json": b"{}", "model.safetensors": WEIGHTS})
    site.faults = [lambda handler, content: faults.drop(5000 if content == WEIGHTS else 2)(handler, content)] * 2
    folder = hub_source(ID)().fetch()
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert "bytes=5000-" in [r for _, _, r in site.asked]


@pytest.mark.parametrize("fault", ["other", "half"])
def test_a_wrong_file_is_not_kept_and_fetched_again(model, site, faults, fault):
    site.repository(ID, {"config.json": b"{}", "model.safetensors": WEIGHTS})

    def wrong_weights(handler, content):
        give = getattr(faults, fault) if content == WEIGHTS else faults.no_ranges
        give(handler, content)

    site.faults = [wrong_weights] * 2
    with pytest.raises(
        DownloadError, match=rf"^{ID}: (.* gave model\.safetensors with SHA|not fetched whole from http)"
    ) as e:
        model().fetch()
    assert "\n" not in str(e.value)
    del site.faults[:]
    assert (model().fetch() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_hub_that_answers_with_a_page_or_not_at_all_or_does_not_know_the_model(model, site, monkeypatch):
    with pytest.raises(DownloadError, match=r"^someone/none: http://127\S+ does not list it \(\w+: .*404"):
        hub_source("someone/none")()
    site.files[f"/api/models/{ID}"] = b"<html>log in</html>"
    with pytest.raises(DownloadError, match=rf"^{ID}: http://127\S+ does not list it \(\w+: "):
        model()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=rf"^{ID}: http://127\.0\.0\.1:9 does not list it \(ConnectError: ") as e:
        model()
    assert "\n" not in str(e.value)


def test_offline_is_named(model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=rf"^{ID}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it$"):
        model()

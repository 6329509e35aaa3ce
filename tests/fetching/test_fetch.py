"""``semfacediff fetch`` and ``weights.download=true``: one implementation, from a server on this machine."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from semfacediff.cli import main
from semfacediff.commands.fetch import weights as command
from semfacediff.editing.diffusion import find_pipeline
from semfacediff.errors import UserError
from semfacediff.metrics import weights
from semfacediff.metrics.weights import CLIP_VIT_B_32, LPIPS_ALEXNET, MissingWeightsError, find, find_local
from semfacediff.parsing.segface.pretrained import ImageNetFile

SDXL = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
PARSER = "jonathandinu/face-parsing"


@pytest.fixture
def saved(tmp_path):
    torch.save({"x": torch.tensor(4.0)}, tmp_path / "made.pth")
    return (tmp_path / "made.pth").read_bytes()


@pytest.fixture
def public(site, saved, monkeypatch):
    """AlexNet's weights as they are published, in small, at an address of this machine."""
    site.files["/alexnet.pth"] = saved
    (file,) = LPIPS_ALEXNET.files
    made = {"size": len(saved), "sha256": hashlib.sha256(saved).hexdigest(), "url": f"{site.address}/alexnet.pth"}
    small = replace(LPIPS_ALEXNET, files=(replace(file, **made),))
    monkeypatch.setattr(command, "PUBLIC", (small,))
    return small


@pytest.fixture
def no_hub(monkeypatch):
    """As if all that the hub gives were here."""
    monkeypatch.setattr(command, "PUBLIC_PIPELINES", {})
    monkeypatch.setattr(command, "HUB_PARSERS", {})


def test_what_is_missing_is_fetched_into_the_librarys_cache_and_then_nothing_is(public, site, tmp_path, no_hub, capsys):
    assert main(["fetch"]) == 0
    place = tmp_path / "torch" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    said = capsys.readouterr()
    assert said.out == f"lpips_alexnet: {place}\n"
    assert (
        f"fetching lpips_alexnet: {place.name}, 0.0 MB, from {site.address}/alexnet.pth to {place.parent}" in said.err
    )
    assert find(public, None, None, download=False).comparable
    assert main(["fetch"]) == 0
    assert capsys.readouterr().out == "nothing is missing\n"
    assert main(["fetch", "lpips_alexnet"]) == 0
    assert capsys.readouterr().out == f"lpips_alexnet: {place}\n"
    assert len(site.asked) == 1


def test_download_true_runs_the_same_code_and_says_the_same(public, site, faults, capsys):
    site.faults = [faults.drop(100)]
    found = find(public, None, None, download=True)
    assert found.state["x"] == 4
    assert capsys.readouterr().err.startswith(
        "fetching lpips_alexnet: alexnet-owt-7be5be79.pth, 0.0 MB, from http://127"
    )
    assert [r for _, _, r in site.asked] == [None, "bytes=100-"]


def test_a_download_that_fails_is_part_of_the_miss(public, site, faults):
    site.faults = [faults.other]
    with pytest.raises(
        MissingWeightsError, match=r"could not be downloaded \(.*SHA-256.*\); fetch it with 'semfacedif"
    ):
        find(public, None, None, download=True)


def test_another_file_in_the_way_is_not_overwritten(public, no_hub, capsys):
    place = public.files[0].kept()[0]
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    assert main(["fetch", "lpips_alexnet"]) == 2
    assert "7be5be79.pth is another file than the public one; remove it first" in capsys.readouterr().err
    assert place.read_bytes() == b"mine"


def test_what_cannot_be_had_does_not_keep_the_others(public, capsys):
    assert main(["fetch", "someone/none", "lpips_alexnet"]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("lpips_alexnet: ")
    assert "error: someone/none: http://127.0.0.1:9 does not list it (ConnectError: " in said.err


def test_an_unknown_name_is_one_sentence(capsys):
    assert main(["fetch", "lpips_alexnett"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: fetch: 'lpips_alexnett' is unknown; did you mean lpips_alexnet? known are lpips_alexnet, "
    )
    for name in (PARSER, "nvidia/segformer-b5-finetuned-ade-640-640", "sdxl_inpaint", "sd_inpaint", "imagenet_resnet"):
        assert name in said
    assert said.count("\n") == 1


def test_parsers_of_the_hub_are_fetched_by_their_id(site, monkeypatch, capsys):
    site.repository(
        PARSER, {"config.json": b"{}", "model.safetensors": b"w", "pytorch_model.bin": b"p", "README.md": b""}
    )
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    assert command.of_public(None)["public_parsers"][PARSER]["fetch"] == f"semfacediff fetch {PARSER}"
    assert main(["fetch", PARSER]) == 0
    folder = Path(capsys.readouterr().out.removeprefix(f"{PARSER}: ").strip())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    facts = command.of_public(None)["public_parsers"][PARSER]
    assert facts == {"place": str(folder), "incomplete": False, "fetch": None}
    (folder / "model.safetensors").resolve().unlink()
    facts = command.of_public(None)["public_parsers"][PARSER]
    assert facts == {"place": None, "incomplete": True, "fetch": f"semfacediff fetch {PARSER}"}


def test_starts_from_imagenet_are_fetched_by_their_backbone(site, monkeypatch, tmp_path, capsys):
    content = b"weights of a classifier"
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    site.files[f"/{name}"] = content
    monkeypatch.setattr(ImageNetFile, "of", classmethod(lambda cls, _: cls(f"{site.address}/{name}", 21.1)))
    assert main(["fetch", "imagenet_mobilenet"]) == 0
    assert (tmp_path / "torch" / "checkpoints" / name).read_bytes() == content
    assert capsys.readouterr().err.startswith(f"fetching imagenet_mobilenet (21 MB): {name}, from http://127")


class TestPipeline:
    """The tiny SDXL pipeline, as a repository."""

    @pytest.fixture
    def published(self, site, tiny_sdxl, monkeypatch):
        folder = tiny_sdxl / "sdxl_inpaint"
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        site.repository(SDXL, files | {"README.md": b"words"})
        monkeypatch.setenv("HF_ENDPOINT", site.address)
        return folder

    def test_an_interrupted_snapshot_is_named_and_completed(self, published, site, capsys):
        with pytest.raises(
            UserError, match=r"is neither at weights\.root nor in the hub's cache, and weights\.download is"
        ):
            find_pipeline("sdxl_inpaint", None, None, download=False)
        assert main(["fetch", "sdxl_inpaint"]) == 0
        whole = find_pipeline("sdxl_inpaint", None, None, download=False)
        unet = whole.folder / "unet" / "diffusion_pytorch_model.safetensors"
        unet.resolve().unlink()
        shutil.rmtree(whole.folder / "vae")
        with pytest.raises(UserError) as e:
            find_pipeline("sdxl_inpaint", None, None, download=False)
        assert (
            "of which the hub's cache lacks unet/diffusion_pytorch_model.safetensors, vae/config.json, vae/ weights"
            in str(e.value)
        )
        assert "weights.download is off; fetch it with 'semfacediff fetch sdxl_inpaint'" in str(e.value)
        facts = command.of_public(None)["pipelines"]["sdxl_inpaint"]
        assert (facts["place"], facts["incomplete"]) == (None, True)
        again = find_pipeline("sdxl_inpaint", None, None, download=True)
        assert again.digest(False) == whole.digest(False)
        assert unet.read_bytes() == (published / "unet" / unet.name).read_bytes()
        assert "MB of it are here), from http://127" in capsys.readouterr().err

    def test_what_the_hub_does_not_have_whole_is_said(self, published, site):
        site.repository(SDXL, {"model_index.json": (published / "model_index.json").read_bytes()})
        with pytest.raises(
            UserError, match=r"of which the hub's cache lacks .*unet/.*, and the hub has no more of it; "
        ):
            find_pipeline("sdxl_inpaint", None, None, download=True)

    def test_a_pipeline_by_id_is_named_by_its_id(self, published):
        with pytest.raises(UserError, match=rf"fetch it with 'semfacediff fetch {SDXL}', or set weights\.inpaint=FOLD"):
            find_pipeline("inpaint", SDXL, None, download=False)
        assert find_pipeline("inpaint", SDXL, None, download=True).parts


def test_clip_comes_from_the_hub_first_and_else_from_its_address(site, saved, monkeypatch, tmp_path, capsys):
    digest, commit = hashlib.sha256(saved).hexdigest(), CLIP_VIT_B_32.files[1].revision
    made = {"size": len(saved), "sha256": digest}
    address = f"{site.address}/ViT-B-32.pt"
    files = [replace(f, **made, url=address if f.url else None) for f in CLIP_VIT_B_32.files]
    small = replace(CLIP_VIT_B_32, files=tuple(files))
    site.files["/ViT-B-32.pt"] = saved
    assert weights.fetched(small) == tmp_path / "home" / ".cache" / "clip" / "ViT-B-32.pt"
    (tmp_path / "home" / ".cache" / "clip" / "ViT-B-32.pt").unlink()
    monkeypatch.setenv("HF_ENDPOINT", site.address)
    site.commit = commit
    site.repository("timm/vit_base_patch32_clip_224.openai", {"open_clip_model.safetensors": saved})
    place = weights.fetched(small)
    assert place.parts[-2:] == (commit, "open_clip_model.safetensors")
    assert find_local(small, None) == place
    assert "fetching clip: open_clip_model.safetensors of timm/vit_base" in capsys.readouterr().err


def test_nothing_is_downloaded_unless_asked_for(repository):
    files = [*(repository / "conf").rglob("*.yaml"), *(repository / "experiments").rglob("*.yaml")]
    said = [line for file in files for line in file.read_text().splitlines() if re.search(r"\bdownload:", line)]
    assert said
    assert not [line for line in said if re.search(r"download:\s*true", line)]

"""ImageNet weights as the start of a SegFace: torchvision's files by path or from its cache."""

import pytest
import torch
from torchvision.models import get_model

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import build_parser
from semfacediff.parsing.opening import new_parser, start_weights
from semfacediff.parsing.segface.backbones import BACKBONES
from semfacediff.parsing.segface.pretrained import ImageNetFile, found, start_digest, start_from
from semfacediff.weight_files import file_digest

FILES = {
    "swin_base": "swin_b-68c6b09e.pth",
    "swinv2_base": "swin_v2_b-781e5279.pth",
    "swinv2_small": "swin_v2_s-637d8ceb.pth",
    "swinv2_tiny": "swin_v2_t-b137f0e2.pth",
    "convnext_base": "convnext_base-6075fbad.pth",
    "convnext_small": "convnext_small-0c510722.pth",
    "convnext_tiny": "convnext_small-0c510722.pth",
    "resnet": "resnet101-63fe2227.pth",
    "mobilenet": "mobilenet_v3_large-8738ca79.pth",
    "efficientnet": "efficientnet_v2_m-dc08266a.pth",
}


@pytest.fixture(scope="module")
def trained():
    """The state dict of a MobileNet with its classifier."""
    torch.manual_seed(5)
    return get_model("mobilenet_v3_large", weights=None).state_dict()


@pytest.fixture
def file(trained, tmp_path):
    torch.save(trained, tmp_path / "mobilenet.pth")
    return tmp_path / "mobilenet.pth"


def settings(**changes):
    plain = {"name": "segface_mobilenet", "checkpoint": None, "root": None, "pretrained": None, "options": {}}
    return config.ParserConfig(
        **{**plain, "backend": "torch", "precision": "float32", "label_space": None, "input_size": None, **changes}
    )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_key_but_the_classifiers_has_a_place(backbone):
    spec = BACKBONES[backbone]
    with torch.device("meta"):
        theirs = get_model(spec.network, weights=None).state_dict()
        ours = build_parser(f"segface_{backbone}").backbone.state_dict()
    renamed = {spec.renamed(k): v.shape for k, v in theirs.items()}
    renamed.pop(None)
    assert renamed == {k: v.shape for k, v in ours.items()}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_files_are_torchvisions_first_ones(backbone):
    file = ImageNetFile.of(backbone)
    assert file.name == FILES[backbone]
    assert file.sha256_prefix == FILES[backbone][-12:-4]


def test_a_training_starts_from_a_file(file, trained):
    model, card = new_parser(settings(pretrained=str(file)), CELEBAMASK, 64)
    assert card.label_space == "celebamask"
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, trained[f"features.{key}"]), key
    assert start_weights(settings(pretrained=str(file))) == file_digest(file)


def test_it_starts_from_the_cache(file, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(file.parent))
    cached = file.parent / "checkpoints" / FILES["mobilenet"]
    cached.parent.mkdir()
    file.rename(cached)
    assert found("segface_mobilenet", "imagenet") == cached
    assert start_digest("segface_mobilenet", "imagenet") == file_digest(cached)


def test_a_miss_names_file_place_size_and_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as caught:
        start_digest("segface_mobilenet", "imagenet")
    assert str(caught.value) == (
        "parser.pretrained: mobilenet_v3_large-8738ca79.pth (21 MB, SHA-256 8738ca79...) is not in "
        f"{tmp_path / 'checkpoints'}; fetch it with 'semfacediff fetch imagenet_mobilenet', set "
        "parser.pretrained=FILE, or start from scratch with parser.pretrained=null"
    )


def test_no_file_there(tmp_path):
    with pytest.raises(
        UserError, match=r"parser.pretrained: no file is at .*; expected torchvision's weights of resnet101"
    ):
        found("segface_resnet", str(tmp_path / "no.pth"))


def test_another_networks_weights_are_listed(trained, tmp_path):
    wrong = {k.replace("features.3.", "features.33."): v for k, v in trained.items()}
    torch.save(wrong, tmp_path / "wrong.pth")
    with pytest.raises(
        UserError, match=r"parser.pretrained: .*wrong.pth: .* missing keys \(3\.block.* unexpected keys"
    ):
        start_from(build_parser("segface_mobilenet"), "segface_mobilenet", str(tmp_path / "wrong.pth"))

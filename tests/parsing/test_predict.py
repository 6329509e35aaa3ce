"""Label maps from a model, from disk and from the data set: size, space, and no dependence on neighbours."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES
from semfacediff.parsing import (
    GroundTruthParser,
    ModelParser,
    ParserCard,
    PrecomputedParser,
    build_parser,
    load_parser,
)
from semfacediff.parsing.opening import new_parser, open_parser
from semfacediff.types import FaceSample, to_tensor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parser(tiny_checkpoint):
    return ModelParser(*load_parser(tiny_checkpoint), CPU)


@pytest.fixture(scope="module")
def photos(toy_samples):
    return torch.stack([to_tensor(s.photo) for s in toy_samples(4, 96)])


class Echo(nn.Module):
    """Gives its input as logits of three classes."""

    def forward(self, x):
        return x


def echo(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
    return ModelParser(Echo(), ParserCard("echo", "lapa", size, mean, std), CPU)


class TestModelParser:
    def test_maps_have_the_size_of_the_photos(self, parser, photos):
        labels = parser.predict(photos)
        assert labels.shape == (4, 96, 96)
        assert labels.dtype == torch.int64
        assert 0 <= labels.min() <= labels.max() < 19
        assert parser.predict(photos[:1, :, :50], (30, 40)).shape == (1, 30, 40)
        assert parser.label_space is CELEBAMASK

    def test_logits_have_the_cards_input_size(self, parser, photos):
        assert parser.logits(photos[:2]).shape == (2, 19, 64, 64)

    def test_neighbours_and_order_change_nothing(self, parser, photos):
        together = parser.predict(photos)
        assert all(torch.equal(parser.predict(photos[i : i + 1])[0], together[i]) for i in range(4))
        assert torch.equal(parser.predict(photos.flip(0)), together.flip(0))

    def test_dropout_and_batch_statistics_rest(self, parser, photos):
        before = {k: v.clone() for k, v in parser.model.state_dict().items()}
        assert torch.equal(parser.logits(photos), parser.logits(photos))
        assert all(torch.equal(v, before[k]) for k, v in parser.model.state_dict().items())

    def test_before_and_after_are_the_same_parser(self, parser, photos, toy_samples):
        sample = toy_samples(1, 96)[0]
        before = parser.before(sample, photos[0])
        assert before.shape == (96, 96)
        assert torch.equal(before, parser.after(sample, "hair", photos[0]))

    def test_photos_are_normalised_by_the_card(self):
        x = torch.full((1, 3, 8, 8), 0.5)
        out = echo(8, mean=(0.5, 0.25, 0.0), std=(1.0, 0.25, 0.5)).logits(x)
        assert out[0, :, 0, 0].tolist() == [0.0, 1.0, 1.0]

    def test_logits_are_resized_before_the_decision(self):
        """Between a sure 0 and an unsure 1 the border lies nearer to the 1 than halfway."""
        x = torch.zeros(1, 3, 2, 2)
        x[0, 0, :, 0], x[0, 1, :, 1] = 1.0, 0.25
        labels = echo(2).predict(x, (2, 40))
        assert 20 < (labels[0, 0] == 0).sum() < 40
        assert torch.equal(echo(2).predict(x)[0, 0], torch.tensor([0, 1]))

    def test_shrinking_a_photo_averages(self):
        x = torch.zeros(1, 3, 64, 64)
        x[..., ::2] = 1
        inner = echo(8).logits(x)[..., 2:-2, 2:-2]
        torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.02, rtol=0)

    def test_another_range_is_refused(self, parser, photos):
        with pytest.raises(ValueError, match=r"photos: expected values in \[0,1\]"):
            parser.predict(photos * 2 - 1)


class TestPrecision:
    """``parser.precision``"""

    @pytest.mark.parametrize(
        "name", ["face_lite", "fastscnn_lite", "deeplabv3plus_lite", "unet_lite", "segformer_b0", "segface_mobilenet"]
    )
    def test_halves_give_almost_the_logits_of_floats(self, name):
        torch.manual_seed(0)
        model, photos = build_parser(name), torch.rand(2, 3, 64, 64)
        card = ParserCard(name, "celebamask", 64, [0.5] * 3, [0.25] * 3)
        whole = ModelParser(copy.deepcopy(model), card, CPU).logits(photos)
        parser = ModelParser(model, card, CPU, torch.bfloat16)
        half = parser.logits(photos)
        assert half.dtype == torch.float32
        assert 0 < (half - whole).abs().max() < 0.1 * whole.std(), "8 bits of mantissa, rounded at every layer"
        assert parser.predict(photos, (40, 50)).shape == (2, 40, 50)

    def test_neighbours_and_order_change_nothing(self, tiny_checkpoint, photos):
        parser = ModelParser(*load_parser(tiny_checkpoint), CPU, torch.bfloat16)
        together = parser.predict(photos)
        assert all(torch.equal(parser.predict(photos[i : i + 1])[0], together[i]) for i in range(4))

    def test_it_belongs_to_the_result(self, compose, tiny_checkpoint):
        def settings(*words):
            plain = compose("evaluate", "task=parsing", "data=toy", f"parser.checkpoint={tiny_checkpoint}", *words)
            return config.typed(plain, config.ParsingEvaluation)

        def identity(*words):
            return config.scientific(settings(*words))["parser"].get("precision")

        assert [identity(), identity("parser.precision=bfloat16")] == [None, "bfloat16"]
        parser, _ = open_parser(settings("parser.precision=bfloat16").parser, CELEBAMASK, CPU)
        assert {p.dtype for p in parser.model.parameters() if p.ndim == 4} == {torch.bfloat16}
        assert open_parser(settings().parser, CELEBAMASK, CPU)[0] is not parser

    @pytest.mark.parametrize("words", [["parser.backend=onnx"], ["parser=ground_truth"]])
    def test_where_torch_computes_nothing_it_is_refused(self, compose, words):
        plain = compose("evaluate", "task=parsing", "data=toy", *words, "parser.precision=float16")
        with pytest.raises(
            UserError, match=r"parser.precision=float16 is for a parser that torch computes, got parser="
        ):
            config.typed(plain, config.ParsingEvaluation)

    def test_training_has_its_own(self, tiny_checkpoint):
        plain = config.ParserConfig.trained(str(tiny_checkpoint)).model_copy(update={"precision": "bfloat16"})
        with pytest.raises(UserError, match=r"is that of a trained parser; set train.precision instead"):
            new_parser(plain, CELEBAMASK, 64)


class TestGroundTruth:
    def test_the_data_sets_labels_before_and_no_opinion_after(self, toy_samples):
        sample = toy_samples(1)[0]
        truth = GroundTruthParser(CELEBAMASK)
        photo = to_tensor(sample.photo)
        assert np.array_equal(truth.before(sample, photo).numpy(), sample.labels)
        assert truth.before(sample, torch.zeros(3, 128, 32)).shape == (128, 32)
        assert truth.after(sample, "hair", photo) is None

    def test_the_sample_is_not_written_to(self, toy_samples):
        sample = toy_samples(1)[0]
        before = sample.labels.copy()
        GroundTruthParser(CELEBAMASK).before(sample, to_tensor(sample.photo)).zero_()
        assert np.array_equal(sample.labels, before)


class TestPrecomputed:
    @pytest.fixture
    def root(self, tmp_path, encode, toy_samples):
        labels = [s.labels for s in toy_samples(2)]
        for relative, one in (("before/00000.png", labels[0]), ("after/hair/00000.png", labels[1])):
            (tmp_path / relative).parent.mkdir(parents=True)
            (tmp_path / relative).write_bytes(encode(one))
        return tmp_path

    def test_maps_are_read_from_disk(self, root, toy_samples):
        sample, other = toy_samples(2)
        parser = PrecomputedParser(root, CELEBAMASK)
        photo = torch.zeros(3, 64, 64)
        assert np.array_equal(parser.before(sample, photo).numpy(), sample.labels)
        assert np.array_equal(parser.after(sample, "hair", photo).numpy(), other.labels)

    def test_they_are_resized_to_the_photo(self, root, toy_samples):
        sample = toy_samples(1)[0]
        doubled = PrecomputedParser(root, CELEBAMASK).before(sample, torch.zeros(3, 128, 128))
        assert np.array_equal(doubled.numpy(), sample.labels.repeat(2, 0).repeat(2, 1))

    def test_nothing_there(self, tmp_path):
        with pytest.raises(UserError, match=r"parser.root: expected label maps in .*before, found no such folder"):
            PrecomputedParser(tmp_path, CELEBAMASK)

    def test_a_missing_map_is_named(self, root, toy_samples):
        parser = PrecomputedParser(root, CELEBAMASK)
        photo = torch.zeros(3, 64, 64)
        with pytest.raises(UserError, match=r"^before/00001.png: cannot be read \(No such file or directory\)"):
            parser.before(toy_samples(2)[1], photo)
        with pytest.raises(UserError, match=r"^after/lips/00000.png: cannot be read"):
            parser.after(toy_samples(1)[0], "lips", photo)

    def test_values_of_another_space(self, root, toy_samples):
        with pytest.raises(UserError, match=r"^before/00000.png: label values .* lie outside space 'lapa' \(0..10\)"):
            PrecomputedParser(root, SPACES["lapa"]).before(toy_samples(1)[0], torch.zeros(3, 64, 64))

    def test_a_map_of_another_mode(self, root, encode, toy_samples):
        (root / "before" / "00000.png").write_bytes(encode(toy_samples(1)[0].photo))
        with pytest.raises(UserError, match=r"^before/00000.png: expected a label map in mode L, P or I;16, got RGB"):
            PrecomputedParser(root, CELEBAMASK).before(
                FaceSample("00000", np.zeros((64, 64, 3), np.uint8)), torch.zeros(3, 64, 64)
            )


@pytest.mark.parametrize("size", [(101, 99), (41, 300), (80, 100)])
def test_the_largest_class_of_enlarged_logits_is_found_without_enlarging_them_all(size):
    g = torch.Generator().manual_seed(3)
    coarse = torch.randn(1, 19, 5, 6, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, size=(40, 50), mode="bicubic")  # regions, as a parser's have
    for logits in (
        smooth,
        torch.randn(1, 19, 40, 50, generator=g),
        smooth.contiguous(memory_format=torch.channels_last),
    ):
        enlarged = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        assert torch.equal(ModelParser.label_map(logits, size), enlarged.argmax(1))


def test_at_the_input_size_it_is_the_largest_logit():
    """face_lite's last step, enlarging, is left out there; only ties within rounding may fall otherwise."""
    torch.manual_seed(0)
    model = build_parser("face_lite")
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.5)  # so that every class wins somewhere
    parser = ModelParser(model, ParserCard("face_lite", "celebamask", 128, [0.5] * 3, [0.25] * 3), CPU)
    photos = torch.rand(2, 3, 128, 128)
    labels = parser.predict(photos)
    assert len(labels.unique()) > 3
    assert (labels != parser.logits(photos).argmax(1)).float().mean() < 1e-4

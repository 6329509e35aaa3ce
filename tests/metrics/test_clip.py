"""CLIP against open_clip, with random weights read from a file."""

import dataclasses

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from semfacediff.errors import UserError
from semfacediff.metrics.clip import CLIP, CLIPEffect

SMALL = "ViT-S-32-alt"
CPU = torch.device("cpu")
LONG = "brown hair, " * 40


@pytest.fixture(scope="module")
def library():
    """(network, preprocessing, tokenizer) of open_clip itself, untrained."""
    torch.manual_seed(3)
    net, _, preprocess = open_clip.create_model_and_transforms(SMALL, pretrained=None)
    with torch.no_grad():
        net.text_projection.mul_(30)  # so that prompts differ
    return net.eval(), preprocess, open_clip.get_tokenizer(SMALL)


@pytest.fixture(scope="module")
def metric(library):
    return CLIP(SMALL, library[0].state_dict(), "sha256:a", CPU)


@torch.no_grad()
def direct(library, edit, prompt):
    """Cosine by open_clip's own calls, in float64."""
    net, preprocess, tokenizer = library
    photo = net.encode_image(preprocess(Image.fromarray(edit))[None])[0].double()
    text = net.encode_text(tokenizer([prompt]))[0].double()
    return float(photo @ text / photo.norm() / text.norm())


@pytest.fixture
def edit(pair):
    return dataclasses.replace(pair(height=90, width=70), prompt="natural brown hair")


def test_equals_open_clip(metric, library, pair):
    for seed, size, prompt in ((0, (96, 80), "natural brown hair"), (1, (64, 80), "pink lips"), (2, (300, 260), LONG)):
        p = dataclasses.replace(pair(seed, *size), prompt=prompt)
        value = metric.score(p)["clip"]
        assert value == pytest.approx(direct(library, p.edit, prompt), abs=1e-5)
        assert -1 <= value <= 1


def test_a_batch_is_scored_as_its_photos(metric, pair, monkeypatch):
    """Convolutions of other shapes round differently: by as many units as there are terms in their longest sum."""
    pairs = [dataclasses.replace(pair(i, 60 + 9 * i, 80), prompt=p) for i, p in enumerate(("brown hair", LONG, "lips"))]
    alone = [metric.score(p)["clip"] for p in pairs]
    monkeypatch.setattr(metric, "together", True)
    assert [s["clip"] for s in metric.scores(pairs)] == pytest.approx(alone, rel=1e-4, abs=1e-5)
    assert metric.scores([]) == []


def test_the_edit_is_scored_and_not_the_photo_or_the_mask(metric, edit):
    value = metric.score(edit)
    other = dataclasses.replace(edit, photo=edit.photo[::-1].copy(), blend=255 - edit.blend)
    assert metric.score(other) == value
    assert metric.score(dataclasses.replace(edit, edit=edit.edit[::-1].copy())) != value


def test_the_prompt_is_scored_and_embedded_once(metric, edit, monkeypatch):
    first = metric.score(edit)
    monkeypatch.setattr(metric.net, "encode_text", lambda *_, **__: pytest.fail("embedded again"))
    assert metric.score(edit) == first


def test_a_photo_that_matches_the_prompt_scores_higher(metric, edit, monkeypatch):
    """An untrained network knows no words; give the prompt the direction of one photo."""
    with torch.no_grad():
        wanted = metric.net.encode_image(metric.preprocess(Image.fromarray(edit.photo))[None], normalize=True)[0]
    monkeypatch.setattr(metric, "text", lambda prompt: wanted)
    values = [
        metric.score(dataclasses.replace(edit, edit=e, prompt="that photo")) for e in (edit.photo, 255 - edit.edit)
    ]
    assert values[0]["clip"] == pytest.approx(1, abs=1e-5)
    assert values[1]["clip"] < values[0]["clip"]
    assert metric.higher_is_better == {"clip": True}


def test_a_prompt_over_the_tokenizers_length_is_told(metric):
    assert metric.note("natural brown hair, smooth and shiny") is None
    assert metric.note("hair " * 75) is None, "77 tokens with start and end"
    assert metric.note("hair " * 76) == "CLIP reads 77 tokens, the prompt has 78; the rest is unscored"
    assert "the prompt has 122" in metric.note(LONG)


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(edit):
    before = torch.random.get_rng_state()
    values = [CLIP(SMALL, None, "random", CPU).score(edit) for _ in range(2)]
    assert values[0] == values[1]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_openais_extra_entries_and_prefixes_are_accepted(library, metric, edit):
    state = library[0].state_dict()
    state = {f"module.{k}": v for k, v in state.items()} | {"input_resolution": torch.tensor(224)}
    assert CLIP(SMALL, {"state_dict": state}, "x", CPU).score(edit) == metric.score(edit)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: {"layer.weight": torch.zeros(3)},
        lambda s: {k: v for k, v in s.items() if "resblocks.3" not in k},
        lambda s: s | {"text_projection": torch.zeros(3, 3)},
        lambda s: {k: None for k in s},
    ],
)
def test_weights_of_something_else_are_refused(library, spoil):
    with pytest.raises(UserError, match=rf"weights\.clip: not the state dict of metrics\.clip\.model={SMALL} \(.*\); "):
        CLIP(SMALL, spoil(dict(library[0].state_dict())), "x", CPU)


@pytest.mark.parametrize("name", ["ViT-B32", "hf-hub:someone/model", "local-dir:/tmp", ""])
def test_an_unknown_architecture_is_refused_before_anything_is_fetched(name):
    with pytest.raises(UserError, match=r"metrics\.clip\.model: open_clip has no architecture"):
        CLIP(name, None, "random", CPU)


def test_damaged_weights_score_nothing(library, edit):
    state = dict(library[0].state_dict())
    state["visual.conv1.weight"] = torch.full_like(state["visual.conv1.weight"], np.nan)
    with pytest.raises(ValueError, match="clip: the features are not finite; weights sha256:b are damaged"):
        CLIP(SMALL, state, "sha256:b", CPU).score(edit)


def test_identity_names_model_weights_and_preprocessing(metric):
    said = metric.identity()
    assert (said["metric"], said["model"], said["weights"]) == ("clip", SMALL, "sha256:a")
    assert (said["implementation"], said["version"][0]) == ("open_clip", "3")
    assert said["range"] == [-1, 1]
    assert "77 tokens" in said["prompt"]


class TestEffect:
    @pytest.fixture
    def one(self, pair):
        """An edit of the box 20:50 x 30:60 of a 90 x 120 photo."""
        blend = np.zeros((90, 120), np.uint8)
        blend[20:50, 30:60] = 255
        return dataclasses.replace(pair(height=90, width=120), prompt="copper red hair", attribute="hair", blend=blend)

    def test_equals_open_clip(self, metric, library, one):
        net, preprocess, tokenizer = library
        crop = np.ascontiguousarray(one.edit[13:57, 23:67])  # a quarter of 29 px, rounded, on every side
        with torch.no_grad():
            images = torch.cat([preprocess(Image.fromarray(x))[None] for x in (one.photo, one.edit, crop)])
            photo, edit, region = (x.double() / x.double().norm() for x in net.encode_image(images))
            asked, name = (x.double() / x.double().norm() for x in net.encode_text(tokenizer([one.prompt, "hair"])))
        made, wanted = edit - photo, asked - name
        scores = CLIPEffect(metric).score(one)
        assert scores["clip_photo"] == pytest.approx(float(photo @ asked), abs=1e-5)
        assert scores["clip_region"] == pytest.approx(float(region @ asked), abs=1e-5)
        # Changes are differences of unit vectors: rounding weighs by their lengths.
        bound = 1e-5 / min(float(made.norm()), float(wanted.norm()))
        expected = float(made @ wanted / made.norm() / wanted.norm())
        assert scores["clip_direction"] == pytest.approx(expected, abs=bound)

    def test_what_is_missing(self, metric, one):
        effect = CLIPEffect(metric)
        same = dataclasses.replace(one, edit=one.photo)
        assert effect.score(same)["clip_direction"] is None
        assert effect.score(dataclasses.replace(one, prompt="hair"))["clip_direction"] is None
        nowhere = effect.score(dataclasses.replace(one, blend=np.zeros_like(one.blend)))
        assert nowhere["clip_region"] is None
        assert nowhere["clip_photo"] == effect.score(one)["clip_photo"]

    def test_a_batch_is_scored_as_its_edits(self, metric, one, monkeypatch):
        effect = CLIPEffect(metric)
        pairs = [
            one,
            dataclasses.replace(one, blend=np.zeros_like(one.blend)),
            dataclasses.replace(one, edit=one.photo),
        ]
        alone = [effect.score(p) for p in pairs]
        monkeypatch.setattr(effect, "together", True)
        for together, expected in zip(effect.scores(pairs), alone, strict=True):
            assert together.keys() == expected.keys()
            for column, value in expected.items():
                assert together[column] == (None if value is None else pytest.approx(value, rel=1e-3, abs=1e-4))
        assert effect.scores([]) == []

    def test_it_names_the_network_of_clip(self, metric):
        identity = CLIPEffect(metric).identity()
        assert identity["metric"] == "clip_photo, clip_direction, clip_region"
        assert identity["weights"] == metric.identity()["weights"]
        assert set(identity) >= set(metric.identity())

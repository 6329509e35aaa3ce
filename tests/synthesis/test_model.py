"""Options, null conditions, precision, and folders that keep a model."""

import json
import re
import shutil

import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.synthesis import (
    PRESETS,
    SCADM,
    SCADMOptions,
    load_synthesis,
    one_hot,
    read_synthesis_card,
    save_synthesis,
)


class TestOptions:
    def test_the_papers_shapes(self):
        o = SCADMOptions()
        assert o.latent_shape == (3, 64, 64)
        assert o.style_width == 1280

    @pytest.mark.parametrize("name", ["small", "test"])  # the paper's is built in test_unet
    def test_presets_are_consistent(self, name):
        with torch.device("meta"):
            tokens, mask = SCADM(PRESETS[name]).null_condition()
        assert tokens.shape == (1, 19, PRESETS[name].style_width)
        assert mask.shape == (1, 19, PRESETS[name].image_size, PRESETS[name].image_size)

    def test_a_size_that_the_stages_cannot_halve(self):
        message = (
            "image_size: expected a multiple of 64 (style_down, vq_multipliers and unet_multipliers halve that often)"
        )
        with pytest.raises(UserError, match=re.escape(message) + ", got 200"):
            SCADMOptions(image_size=200)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"unet_channels": 100}, r"^unet_channels: expected a multiple of 32 \(groups .*\), got 100$"),
            ({"vq_channels": 48}, r"^vq_channels: expected a multiple of 32 \(groups .*\), got 48$"),
            ({"image_size": 0}, r"^image_size: expected at least 1, got 0$"),
            ({"style_down": 1}, r"^style_down: expected at least 2, got 1$"),
            ({"vq_layers": 0}, r"^vq_layers: expected at least 1, got 0$"),
            ({"vq_multipliers": ()}, r"^vq_multipliers: expected a whole number from 1 on for every level, got \(\)$"),
            ({"unet_multipliers": (1, 0)}, r"^unet_multipliers: expected a whole number from 1 on .*, got \(1, 0\)$"),
            ({"head_width": 128}, r"^head_width: expected a divisor of 32 \(transformers are 32 .*\), got 128$"),
            ({"head_width": 48}, r"^head_width: expected a divisor of 32 .*, got 48$"),
            ({"head_width": 7, "attention_factors": ()}, r"^head_width: expected a divisor of 32 .*, got 7$"),
            (
                {"attention_factors": (3,)},
                r"^attention_factors: expected some of 1, 2, by which the levels of unet_multipliers=\[1, 1\] are "
                r"smaller than the latent, got 3$",
            ),
            ({"attention_factors": (1, 0)}, r"^attention_factors: expected some of 1, 2, .*, got 0$"),
            ({"attention_factors": (4,)}, r"^attention_factors: expected some of 1, 2, .*, got 4$"),
            (
                {"unet_multipliers": (1, 1, 1, 1)},
                r"^image_size: expected at least 64, got 32: vq_multipliers and unet_multipliers halve it to a single "
                r"pixel, which cannot be normalised; take fewer levels$",
            ),
            ({"vq_multipliers": (1, 1, 1, 1, 1)}, r"^image_size: expected at least 64, got 32: "),
        ],
    )
    def test_sizes_that_make_no_network(self, asked, message):
        tiny = {**vars(PRESETS["test"]), "unet_multipliers": (1, 1)}
        with pytest.raises(UserError, match=message):
            SCADMOptions(**{**tiny, **asked})

    def test_the_smallest_latent_computes(self):
        options = {**vars(PRESETS["test"]), "image_size": 16, "unet_multipliers": (1, 1), "head_width": 8}
        model = SCADM(SCADMOptions(**options)).eval()
        mask = one_hot(torch.zeros(1, 16, 16), 19)
        with torch.inference_mode():
            eps = model(torch.randn(1, 3, 4, 4), torch.tensor([3]), torch.zeros(1, 3, 16, 16), mask)
        assert eps.isfinite().all()

    def test_lists_are_taken(self):
        assert SCADMOptions(unet_multipliers=[1, 2, 3, 4]) == SCADMOptions()


def test_the_first_stage_stays_frozen_and_in_eval_mode(make_tiny):
    model = make_tiny().train()
    assert model.unet.training
    assert model.style_encoder.training
    assert not model.first_stage.training
    assert not any(p.requires_grad for p in model.first_stage.parameters())


def test_dropped_samples_get_the_null_condition(tiny):
    torch.manual_seed(0)
    x, t, images = torch.randn(2, 3, 8, 8), torch.tensor([4, 4]), torch.randn(2, 3, 32, 32)
    mask = one_hot(torch.ones(2, 32, 32), 19)
    with torch.inference_mode():
        eps = tiny(x, t, images, mask, dropped=torch.tensor([True, False]))
        torch.testing.assert_close(eps[:1], tiny.unet(x[:1], t[:1], *tiny.null_condition()), rtol=0, atol=1e-4)
        torch.testing.assert_close(eps[1:], tiny(x[1:], t[1:], images[1:], mask[1:]), rtol=0, atol=1e-4)


def test_half_precision_leaves_the_first_stage(make_tiny):
    model = make_tiny().in_precision(torch.float16)
    assert {p.dtype for p in model.unet.parameters()} == {torch.float16}
    assert {p.dtype for p in model.style_encoder.parameters()} == {torch.float16}
    assert model.first_stage.dtype == torch.float32


def test_the_denoiser_is_compiled_where_it_pays(make_tiny, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f: ("compiled", f))
    on_cpu = make_tiny().train().for_sampling(torch.device("cpu"), torch.bfloat16, compiled=True)
    assert callable(on_cpu.unet.denoise)
    assert not on_cpu.training
    elsewhere = make_tiny().for_sampling(torch.device("meta"), torch.float32, compiled=True)
    assert elsewhere.unet.denoise[0] == "compiled"
    assert callable(make_tiny().for_sampling(torch.device("meta"), torch.float32, compiled=False).unet.denoise)


@pytest.fixture(scope="module")
def folder(make_tiny, tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "best"
    save_synthesis(make_tiny(absent_token=True, trained_null=True), place, training={"run": "x"})
    return place


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def rewrite(folder, **changes):
    card = json.loads((folder / "synthesis.json").read_text())
    (folder / "synthesis.json").write_text(json.dumps({**card, **changes}))


class TestFolders:
    def test_a_model_comes_back(self, folder, make_tiny):
        assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "synthesis.json"]
        model, card = load_synthesis(folder)
        assert (card.label_space, card.training) == ("celebamask", {"run": "x"})
        assert card.options == model.options
        assert card.options.trained_null
        assert not model.training
        expected = make_tiny(absent_token=True, trained_null=True).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        assert "unet.label_emb.weight" in frozen

    def test_what_a_kill_left_is_found(self, copy):
        copy.rename(copy.with_name("copy.old"))
        load_synthesis(copy)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": 9}, r"synthesis\.json: format 9 is not 1; use the version of semfacediff that wrote it"),
            (
                {"options": {"wings": 2}},
                r"synthesis\.json: not a model's card \(.*wings.*\); retrain or copy the folder",
            ),
            ({"label_space": "lapa"}, r"label space 'lapa' has 11 classes, the model 19; copy the folder again"),
            ({"options": {"image_size": 0}}, r"synthesis\.json: image_size: expected at least 1, got 0$"),
            ({"label_space": "cats"}, r"unknown label space 'cats'; choose one of celebamask, "),
        ],
    )
    def test_a_card_that_is_no_use(self, copy, changes, message):
        rewrite(copy, **changes)
        with pytest.raises(UserError, match=message):
            read_synthesis_card(copy)

    def test_weights_of_other_options(self, copy):
        options = {**json.loads((copy / "synthesis.json").read_text())["options"], "absent_token": False}
        rewrite(copy, options=options)
        with pytest.raises(
            UserError, match=r"do not fit this architecture: 1 unexpected keys \(style_encoder\.absent\)"
        ):
            load_synthesis(copy)

    def test_truncated_weights(self, copy):
        (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:100])
        with pytest.raises(UserError, match=r"model\.safetensors: the weights cannot be read .*; copy the file again"):
            load_synthesis(copy)

    def test_nothing_there(self, tmp_path):
        with pytest.raises(
            UserError, match=r"nothing is at .*none; train a model with train_synthesis\.py, or correct"
        ):
            load_synthesis(tmp_path / "none")
        with pytest.raises(UserError, match=r"holds no synthesis\.json; expected a folder that training wrote"):
            load_synthesis(tmp_path)

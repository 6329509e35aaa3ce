"""How released weights enter: whole checkpoints, and what is said of weights that do not fit."""

import re
import sys
import types
from dataclasses import replace

import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.synthesis import from_checkpoint, from_published, model_files, one_hot
from semfacediff.synthesis.model_files import resolve_synthesis, trained_synthesis
from semfacediff.synthesis.published import published_names
from semfacediff.weight_files import read_weights


def test_first_stage_weights_come_in_wrapped_too(manifest, filled):
    state = {f"module.{k}": v for k, v in filled("vq_first_stage_small").items()}
    hyper = manifest("vq_first_stage_small")["hyper_parameters"]
    model = from_published("first_stage", hyper, {"state_dict": state})
    assert not model.training
    assert torch.equal(model.vq.quantize.embedding.weight, state["module.quantize.embedding.weight"])


class TestWhatDoesNotFit:
    @pytest.fixture
    def parts(self, manifest, filled):
        name = "style_encoder_tiny5"
        return manifest(name)["hyper_parameters"], filled(name)

    def test_keys_are_listed_under_their_published_names(self, parts):
        hyper, state = parts
        del state["Encoder.first_layer.0.bias"]
        state["out.out_3.0.weight"] = torch.zeros(2)
        state["Decoder.dec_layer_1.2.weight"] = torch.zeros(3)
        message = (
            "component 'style_encoder': the weights do not fit this architecture: "
            "1 missing keys (Encoder.first_layer.0.bias); 1 unexpected keys (out.out_3.0.weight); "
            "1 mis-shaped keys (Decoder.dec_layer_1.2.weight [3] instead of [40])"
        )
        with pytest.raises(UserError, match=re.escape(message)):
            from_published("style_encoder", hyper, state)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_upsample": 2}, "not supported num_upsample=2 instead of 3"),
            ({"kernel_dim": 5}, "not supported kernel_dim=5 instead of 3"),
            ({"num_feat": None}, "missing num_feat"),
            ({"colour": 1}, "unknown colour"),
        ],
    )
    def test_hyper_parameters(self, parts, change, message):
        hyper = {k: v for k, v in {**parts[0], **change}.items() if v is not None}
        expected = f"component 'style_encoder': hyper-parameters do not fit: {message}"
        with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
            from_published("style_encoder", hyper, parts[1])

    def test_an_unknown_component(self):
        with pytest.raises(UserError, match=r"unknown component 'vae' of SCA-DM; choose one of style_encoder, unet, "):
            from_published("vae", {}, {})


@pytest.fixture(scope="module")
def released(tiny):
    """A training checkpoint of the tiny model, as released ones are laid out; averaged weights are one more."""
    unet = {theirs: tiny.unet.state_dict()[ours] for ours, theirs in published_names(tiny.unet).items()}
    parts = {"cond_stage_model": tiny.style_encoder, "first_stage_model": tiny.first_stage}
    others = {
        f"{name}.{theirs}": part.state_dict()[ours]
        for name, part in parts.items()
        for ours, theirs in published_names(part).items()
    }
    schedule = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_one_minus_alphas_cumprod")
    further = ("log_one_minus_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_mean_coef1", "logvar")
    state = {
        **{name: torch.zeros(1000) for name in schedule + further},
        **{f"model.diffusion_model.{k}": v for k, v in unet.items()},
        **{"model_ema." + f"diffusion_model.{k}".replace(".", ""): v + 1 for k, v in unet.items()},
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(7),
        **others,
    }
    return {"epoch": 235, "global_step": 1, "state_dict": state}


def weights(part):
    return torch.cat([v.flatten() for v in part.state_dict().values()])


@pytest.mark.parametrize("ema", [True, False])
def test_a_whole_checkpoint_comes_in(released, tiny, tmp_path, ema):
    torch.save(released, tmp_path / "last.ckpt")
    model = from_checkpoint(read_weights(tmp_path / "last.ckpt"), tiny.options, ema=ema)
    assert torch.equal(weights(model.unet), weights(tiny.unet) + ema)
    assert torch.equal(weights(model.style_encoder), weights(tiny.style_encoder))
    assert torch.equal(weights(model.first_stage), weights(tiny.first_stage))
    assert not model.training


def test_a_loaded_model_computes_like_the_one_it_came_from(released, tiny):
    model = from_checkpoint(released, tiny.options, ema=False)
    torch.manual_seed(0)
    x, t, images = torch.randn(1, 3, 8, 8), torch.tensor([4]), torch.randn(1, 3, 32, 32)
    mask = one_hot(torch.ones(1, 32, 32), 19)
    with torch.inference_mode():
        assert torch.equal(model(x, t, images, mask), tiny(x, t, images, mask))
        assert torch.equal(model.first_stage.decode(x, quantise=False), tiny.first_stage.decode(x))


def without(released, prefix):
    return {"state_dict": {k: v for k, v in released["state_dict"].items() if not k.startswith(prefix)}}


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("model_ema", r"no averaged weights \('model_ema\.\*'\); take the last ones with ema=False"),
        ("cond_stage_model", r"checkpoint, style encoder: the weights do not fit this architecture: \d+ missing keys"),
        ("first_stage_model", r"checkpoint, first stage: .* missing keys \(encoder\.conv_in\.weight, "),
    ],
)
def test_a_part_that_is_missing_is_named(released, tiny, prefix, message):
    with pytest.raises(UserError, match=message):
        from_checkpoint(without(released, prefix), tiny.options)


def test_foreign_keys_are_named(released, tiny):
    released = {"state_dict": {**released["state_dict"], "discriminator.weight": torch.zeros(1)}}
    with pytest.raises(UserError, match=r"the checkpoint has 1 keys of no known part \(discriminator\.weight\)"):
        from_checkpoint(released, tiny.options)


def test_another_size_is_refused(released, tiny):
    with pytest.raises(UserError, match=r"checkpoint, averaged denoiser: .* \d+ mis-shaped keys"):
        from_checkpoint(released, replace(tiny.options, unet_channels=64))


@pytest.fixture
def archive(released, tmp_path, monkeypatch):
    """The same as Lightning archived it: with the state of its callback under its class, optimizer and schedule."""
    packages = ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint")
    module = types.ModuleType(packages[-1])
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": packages[-1]})
    callbacks = {module.ModelCheckpoint: {"monitor": "val/loss_simple_ema", "best_model_score": torch.tensor(0.1)}}
    more = {"optimizer_states": [{"state": {}}], "lr_schedulers": [], "pytorch-lightning_version": "1.4.2"}
    file = tmp_path / "sca_dm" / "epoch=000235.ckpt"
    file.parent.mkdir()
    with monkeypatch.context() as patch:
        for name in packages:
            patch.setitem(sys.modules, name, module if name == packages[-1] else types.ModuleType(name))
        torch.save(released | more | {"callbacks": callbacks}, file)
    return file


def test_the_released_archive_opens_by_file_and_by_folder(archive, tiny, monkeypatch):
    monkeypatch.setattr(model_files, "SCADMOptions", lambda: tiny.options)
    assert resolve_synthesis(archive.parent, "synthesis.checkpoint") == archive
    assert resolve_synthesis(str(archive), "synthesis.checkpoint") == archive
    model, card, digest = trained_synthesis(archive)
    assert torch.equal(weights(model.unet), weights(tiny.unet) + 1)
    assert (card.label_space, card.training, len(digest)) == ("celebamask", {"run": "released"}, 64)
    assert "pytorch_lightning" not in sys.modules, "the class beside the tensors is not imported"


def test_two_archives_in_a_folder_are_not_chosen_between(archive):
    (archive.parent / "last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"synthesis.checkpoint: .* holds no synthesis.json"):
        resolve_synthesis(archive.parent, "synthesis.checkpoint")

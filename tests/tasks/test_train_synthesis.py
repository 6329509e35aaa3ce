"""Training SCA-DM from the configuration to checkpoints, stopped and continued."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from semfacediff import config, tasks
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.synthesis import load_synthesis
from semfacediff.synthesis.codebook import nearest, revive, standardise
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.first_stage_files import trained_first_stage
from semfacediff.synthesis.latents import prepared_faces, to_signed, with_latents
from semfacediff.synthesis.losses import Dropout, drawn
from semfacediff.synthesis.model import PRESETS, SCADM, SCADMOptions
from semfacediff.synthesis.published import published_names
from semfacediff.synthesis.sampling import SamplingOptions, training_schedule
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.tasks.folder_digest import folder_digest
from semfacediff.tasks.training import synthesis as train_synthesis
from semfacediff.tasks.training import synthesis as training
from semfacediff.tasks.training import synthesis_objectives
from semfacediff.tasks.training.synthesis_objectives import DiffusionObjective
from semfacediff.tasks.training.synthesis_trainer import SynthesisTrainer
from semfacediff.types import to_uint8

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (
    "synthesis=tiny synthesis.image_size=32 synthesis.vq_codes=16 synthesis.style_features=1 synthesis.style_down=3 "
    "synthesis.token_width=4 synthesis.unet_multipliers=[1] synthesis.attention_factors=[1] "
    "data.count=10 data.size=32 data.split_rule.modulo=5 runtime.workers=0 runtime.device=cpu "
    "vq.steps=4 vq.batch_size=2 vq.unquantised_steps=1 vq.validate_every_steps=2 vq.checkpoint_every_steps=2 "
    "vq.sample_every_steps=4 vq.revive_every_steps=2 "
    "diffusion.steps=4 diffusion.batch_size=2 diffusion.accumulate=2 diffusion.lr=1e-3 diffusion.ema_decay=0.5 "
    "diffusion.validate_every_steps=2 diffusion.checkpoint_every_steps=2 diffusion.sample_every_steps=4 "
    "diffusion.sample_steps=2 diffusion.sample_photos=2"
).split()


def settings(*overrides: str) -> config.SynthesisTraining:
    return config.typed(composed("train_synthesis", [*SMALL, *overrides], REPOSITORY), config.SynthesisTraining)


def weights(folder: Path, which: str = "average") -> bytes:
    return (folder / "checkpoints" / which / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A run of ``stage=first``."""
    folder = tmp_path_factory.mktemp("first")
    assert tasks.start(settings("stage=first"), folder) == 0
    return folder


@pytest.fixture(scope="module")
def trained(first, tmp_path_factory) -> Path:
    """A run of ``stage=diffusion`` in it."""
    folder = tmp_path_factory.mktemp("trained")
    assert tasks.start(settings(f"first_stage.checkpoint={first}"), folder) == 0
    return folder


def test_leaves_a_record_and_a_model(trained, first):
    run = json.loads((trained / "run.json").read_text())
    assert (run["status"], run["steps_done"], run["data"]["train"]["n"], run["data"]["val"]["n"]) == ("done", 4, 8, 2)
    history = pd.read_csv(trained / "history.csv")
    assert list(history) == ["step", "train_loss", "lr", "val_loss"]
    assert list(history["step"]) == [2, 4]
    model, card = load_synthesis(trained / "checkpoints" / "average")
    assert (card.label_space, card.options.image_size, card.training["steps"]) == ("celebamask", 32, 4)
    ours, theirs = model.first_stage.state_dict(), load_file(first / "checkpoints" / "average" / "model.safetensors")
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert (trained / "figures" / "samples_0000004.png").stat().st_size > 1000


def test_a_first_stage_for_use_has_latents_of_mean_0_and_deviation_1(first):
    options = train_synthesis.synthesis_options(settings(), 19)
    stage = trained_first_stage(str(first), options).stage
    faces = ToyFaces(10, 32)
    photos = np.stack([faces[i].photo for i in range(10) if i % 5])
    with torch.no_grad():
        z = stage.encode(to_signed(photos))
    assert z.mean((0, 2, 3)).abs().max() < 1e-4
    assert z.square().mean().sqrt() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("stage", "stop_at"), [("diffusion", 1), ("diffusion", 3), ("first", 3)])
def test_stopped_at_any_step_and_continued_ends_with_the_same_weights(
    trained, first, tmp_path, monkeypatch, stage, stop_at
):
    original = SynthesisTrainer._one_step

    def stopping(self):
        if self.progress.step == stop_at:
            raise KeyboardInterrupt
        return original(self)

    asked = settings(f"stage={stage}", f"first_stage.checkpoint={first if stage == 'diffusion' else 'null'}")
    monkeypatch.setattr(SynthesisTrainer, "_one_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(asked, tmp_path)
    monkeypatch.undo()
    assert tasks.start(asked, tmp_path) == 0
    whole = trained if stage == "diffusion" else first
    assert weights(tmp_path) == weights(whole)
    assert weights(tmp_path, "last") == weights(whole, "last")
    assert (tmp_path / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.mark.slow
def test_a_killed_process_continues(trained, first, tmp_path):
    asked = settings(f"first_stage.checkpoint={first}")
    # Not a fork: autograd refuses to run in one once it has threads of its own in this process.
    process = multiprocessing.get_context("spawn").Process(target=tasks.start, args=(asked, tmp_path))
    process.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoints" / "last").is_dir() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    assert tasks.start(asked, tmp_path) == 0
    assert weights(tmp_path) == weights(trained)


def test_another_configuration_is_refused_by_name(trained, first):
    with pytest.raises(
        UserError, match=r"belongs to another configuration: config.diffusion.lr was 0.001, now 0.002;"
    ) as e:
        tasks.start(settings(f"first_stage.checkpoint={first}", "diffusion.lr=2e-3"), trained)
    assert "\n" not in str(e.value)


def test_what_a_stage_does_not_read_may_change(trained, first, capsys):
    words = ("vq.lr=1", "diffusion.sample_every_steps=0", "runtime.batch_size=7")
    assert tasks.start(settings(f"first_stage.checkpoint={first}", *words), trained) == 0
    assert "checkpoint:" in capsys.readouterr().out
    one, other = (settings("stage=first", *w) for w in ((), ("diffusion.steps=9", "synthesis.unet_channels=64")))
    assert folder_digest(one) == folder_digest(other)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], r"first_stage.checkpoint is not set: .* train one with train_synthesis.py stage=first"),
        (["first_stage.checkpoint=nowhere"], r"first_stage.checkpoint: nothing is at nowhere; train one with"),
        (["first_stage.checkpoint={here}"], r"holds no first_stage.json; train one with"),
        (
            ["first_stage.checkpoint={first}", "synthesis.vq_codes=8"],
            r"is of another shape \(synthesis.vq_codes=8, there 16\); set them alike",
        ),
        (["first_stage.checkpoint={first}", "diffusion.sample_steps=7"], r"^diffusion.sample_steps: .*; use 5 or 8$"),
        (["first_stage.checkpoint={first}", "synthesis.head_width=7"], r"^synthesis.head_width: expected a divisor"),
        (["stage=first", "synthesis.image_size=20"], r"^synthesis.image_size: expected a multiple of 8 .*, got 20$"),
        (
            ["first_stage.checkpoint={first}", "synthesis.unet_multipliers=[1,1,1,1]"],
            r"^synthesis.image_size: expected at least 64, got 32: vq_multipliers and unet_multipliers halve it to a",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_photos_are_read(words, said, first, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "open_data", lambda *_, **__: pytest.fail("photos were read"))
    with pytest.raises(UserError, match=said) as e:
        tasks.start(settings(*(w.format(first=first, here=tmp_path) for w in words)), tmp_path / "run")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_steps_of_grids_that_are_not_drawn_may_be_any(first, tmp_path):
    asked = settings(f"first_stage.checkpoint={first}", "diffusion.sample_steps=7", "diffusion.sample_every_steps=0")
    train_synthesis._start(asked, train_synthesis.synthesis_options(asked, 19))


class TestFirstStageFiles:
    """``first_stage.checkpoint=FILE``."""

    @pytest.fixture
    def published(self, first):
        """The trained first stage under the keys of the public VQ-f4."""
        state = load_file(first / "checkpoints" / "average" / "model.safetensors")
        names = published_names(FirstStage(32, (1, 1, 2), 1, 16))
        return {names[key]: value for key, value in state.items()}

    def found(self, file):
        return trained_first_stage(str(file), train_synthesis.synthesis_options(settings(), 19))

    def test_a_lightning_checkpoint_is_taken(self, published, first, tmp_path):
        extra = {"loss.discriminator.weight": torch.ones(2)}
        torch.save({"state_dict": published | extra, "epoch": 3}, tmp_path / "model.ckpt")
        ours, theirs = (self.found(place).stage.state_dict() for place in (first, tmp_path / "model.ckpt"))
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)

    def test_other_widths_are_named_by_their_keys(self, tmp_path):
        other = FirstStage(64, (1, 2), 2, 8)
        names = published_names(other)
        save_file({names[k]: v for k, v in other.state_dict().items()}, tmp_path / "vq.safetensors")
        said = (
            "first_stage.checkpoint: {} is of another shape (synthesis.vq_channels=32, there 64; "
            "synthesis.vq_multipliers=[1, 1, 2], there [1, 2]; synthesis.vq_layers=1, there 2; synthesis.vq_codes=16, "
            "there 8); set them alike"
        )
        with pytest.raises(UserError, match=re.escape(said.format(tmp_path / "vq.safetensors"))):
            self.found(tmp_path / "vq.safetensors")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda state: {"x": torch.ones(1)},
                r"expected the keys of VQ-f4, got x, ... \(1 in all\); train one with",
            ),
            (lambda state: {f"vq.{k}": v for k, v in state.items()}, r"trained here, without its first_stage.json"),
            (
                lambda state: state | {"x": torch.ones(1)},
                r"do not fit this architecture: 1 unexpected keys \(x\); train",
            ),
        ],
    )
    def test_another_file_is_one_sentence_with_its_name(self, published, tmp_path, change, said):
        file = tmp_path / "some.safetensors"
        save_file(change(published), file)
        with pytest.raises(UserError, match=said) as e:
            self.found(file)
        assert str(e.value).startswith(f"first_stage.checkpoint: {file}: ")
        assert str(e.value).endswith("first_stage.checkpoint=RUN|FILE")

    def test_a_whole_model_is_not_a_first_stage(self, trained):
        file = trained / "checkpoints" / "average" / "model.safetensors"
        with pytest.raises(UserError, match=rf"checkpoint: {file}: a whole SCA-DM, not the first stage .*; train one"):
            self.found(file)

    def test_the_recipe_of_the_docs_converts_what_carries_a_class(self, published, tmp_path, monkeypatch):
        name = "pytorch_lightning.callbacks.another_one"
        modules = [".".join(name.split(".")[: i + 1]) for i in range(3)]
        kept = type("AnotherOne", (), {"__module__": name, "__qualname__": "AnotherOne"})
        with monkeypatch.context() as m:
            for module in modules:
                m.setitem(sys.modules, module, types.ModuleType(module))
            sys.modules[name].AnotherOne = kept
            torch.save({"state_dict": published, "callbacks": {kept: {"best": 1}}}, tmp_path / "model.ckpt")
        with pytest.raises(
            UserError, match=r"convert it to .safetensors as docs/synthesis.md, 'Released weights', says"
        ):
            self.found(tmp_path / "model.ckpt")
        text = (REPOSITORY / "docs" / "synthesis.md").read_text()
        (recipe,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "safe_globals" in code]
        monkeypatch.chdir(tmp_path)
        exec(recipe, {})
        assert self.found(tmp_path / "model.safetensors").stage.vq.config.num_vq_embeddings == 16


def test_a_damaged_state_says_how_to_start_over(trained, first, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    state = folder / "checkpoints" / "last" / "state.pt"
    state.write_bytes(state.read_bytes()[:2000])
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"status": "running"}))
    asked = settings(f"first_stage.checkpoint={first}")
    said = r"state\.pt: not a readable weights file \(.*\); remove the folder (\S+/last) and repeat: the training"
    with pytest.raises(UserError, match=said) as e:
        tasks.start(asked, folder)
    shutil.rmtree(re.search(said, str(e.value))[1])
    assert tasks.start(asked, folder) == 0
    assert weights(folder) == weights(trained)
    assert (folder / "history.csv").read_bytes() == (trained / "history.csv").read_bytes()


def test_a_loss_that_is_not_finite_names_its_samples(first, tmp_path, monkeypatch):
    def broken(predicted, noise):
        return (predicted - noise).square().mean((1, 2, 3)) * float("nan")

    monkeypatch.setattr(synthesis_objectives, "squared_errors", broken)
    with pytest.raises(UserError, match=r"the loss became nan in step 1, on samples \d+, \d+ \(no checkpoint yet\)"):
        tasks.start(settings(f"first_stage.checkpoint={first}"), tmp_path)


def test_the_average_covers_the_denoiser_alone_if_asked(first, tmp_path):
    tasks.start(settings(f"first_stage.checkpoint={first}", "diffusion.ema_of=unet", "diffusion.steps=2"), tmp_path)
    last, average = (load_file(tmp_path / "checkpoints" / w / "model.safetensors") for w in ("last", "average"))
    same = {k.split(".")[0]: set() for k in last}
    for k in last:
        same[k.split(".")[0]].add(torch.equal(last[k], average[k]))
    assert same["style_encoder"] == {True}
    assert False in same["unet"]


class TestObjective:
    """What the networks are given."""

    @pytest.fixture
    def given(self, tmp_path):
        """``given(prediction, **dropout)``: what one call of the net was given, the faces, and losses of saying 0."""
        plain = settings().synthesis.model_dump()
        faces = prepared_faces(ToyFaces(3, 32), "toy", 32, tmp_path)
        faces = with_latents(faces, "toy", lambda x: x[:, :, ::4, ::4], "none", 1, torch.device("cpu"), tmp_path)

        class Spy(torch.nn.Module):
            def __init__(self, prediction):
                super().__init__()
                self.options = SCADMOptions(**plain | {"prediction": prediction})
                self.unet = torch.nn.Identity()

            def forward(self, *inputs):
                self.inputs = inputs
                return torch.zeros_like(inputs[0])

        def call(prediction="v", **changes):
            asked = settings().diffusion.model_copy(update={"image_dropout": 0.0, **changes})
            spy = Spy(prediction)
            objective = DiffusionObjective(spy, asked, {"train": faces, "val": faces}, 1, torch.device("cpu"), tmp_path)
            losses = objective.losses(spy, [0, 2], 0, 0)
            assert losses.shape == (2,)
            return spy.inputs, faces, losses

        return call

    def test_a_dropped_photo_is_grey_for_the_style_encoder_and_for_nothing_else(self, given):
        (z, t, images, mask, seen, dropped), faces, _ = given()
        (z0, t0, grey, mask0, *_), _, _ = given(image_dropout=1.0)
        assert not grey.any()
        assert torch.equal(images, to_signed(faces.photos[[0, 2]]))
        assert torch.equal(z, z0)
        assert torch.equal(t, t0)
        assert torch.equal(mask, mask0)
        assert torch.equal(mask.argmax(1).byte(), torch.from_numpy(faces.labels[[0, 2]]))
        assert seen is None
        assert dropped is None

    def test_the_null_condition_and_hidden_parts_are_drawn_if_asked(self, given):
        (*_, mask, seen, dropped), _, _ = given(null_dropout=1.0, part_dropout=1.0)
        assert dropped.all()
        assert not seen.any()
        assert mask.any()

    def test_the_loss_is_of_what_the_denoiser_predicts(self, given):
        (z, t, *_), faces, of_noise = given("epsilon")
        a = training_schedule().alphas_cumprod[t].view(-1, 1, 1, 1)
        noise = (z - a.sqrt() * torch.from_numpy(faces.latents[[0, 2]])) / (1 - a).sqrt()
        torch.testing.assert_close(of_noise, noise.square().mean((1, 2, 3)), rtol=1e-3, atol=1e-4)
        velocity = (a.sqrt() * z - torch.from_numpy(faces.latents[[0, 2]])) / (1 - a).sqrt()
        torch.testing.assert_close(given("v")[2], velocity.square().mean((1, 2, 3)), rtol=1e-3, atol=1e-4)


def test_draws_depend_on_the_sample_alone():
    some = Dropout(0.5, 0.5, 0.5)
    both = drawn([(1, 0, "a"), (1, 0, "b")], (3, 4, 4), 19, some)
    alone = drawn([(1, 0, "b")], (3, 4, 4), 19, some)
    for name in ("noise", "steps", "image_dropped", "all_dropped", "part_dropped"):
        assert torch.equal(getattr(both, name)[1:], getattr(alone, name))
    many = drawn([(1, 0, i) for i in range(400)], (1, 1, 1), 2, Dropout(0.5, 0.1, 0.0))
    assert many.image_dropped.float().mean() == pytest.approx(0.5, abs=0.08)
    assert many.all_dropped.float().mean() == pytest.approx(0.1, abs=0.05)
    assert not many.part_dropped.any()


class TestCache:
    """Prepared photos and latents."""

    def latents(self, cache, encode, first_stage="one"):
        prepared = prepared_faces(ToyFaces(3, 32), "toy", 32, cache)
        return with_latents(prepared, "toy", encode, first_stage, 1, torch.device("cpu"), cache)

    def test_photos_are_encoded_once_for_a_first_stage(self, tmp_path):
        calls = []

        def encode(x):
            calls.append(len(x))
            return x[:, :, ::4, ::4]

        made = self.latents(tmp_path, encode)
        assert calls == [1, 1, 1, 1]  # one to learn the shape
        again = self.latents(tmp_path, encode)
        assert len(calls) == 5
        assert np.array_equal(made.latents, again.latents)
        assert np.array_equal(made.latents, to_signed(made.photos)[:, :, ::4, ::4].numpy())
        self.latents(tmp_path, encode, "another")
        assert len(calls) == 9

    def test_a_cache_of_other_samples_is_said(self, tmp_path):
        prepared_faces(ToyFaces(3, 32), "toy", 32, tmp_path)
        (folder,) = tmp_path.glob("faces_*")
        about = json.loads((folder / "about.json").read_text())
        (folder / "about.json").write_text(json.dumps(about | {"ids": ["x", "y", "z"]}))
        with pytest.raises(UserError, match=r"a damaged cache .*; remove this folder and repeat"):
            prepared_faces(ToyFaces(3, 32), "toy", 32, tmp_path)


class TestCodebook:
    """Codes and the scale of the latent space."""

    def test_the_nearest_code_is_taken(self):
        z, codes = torch.randn(2, 3, 4, 5), torch.randn(7, 3)
        found = nearest(z, codes)
        apart = (z[:, None] - codes[None, :, :, None, None]).square().sum(2)
        assert torch.equal(found, codes[apart.argmin(1)].permute(0, 3, 1, 2))

    def test_dead_codes_move_onto_latents_and_others_stay(self):
        z = torch.randn(1, 3, 4, 4)
        codes = torch.cat([z[0, :, 0, :2].T.clone(), torch.full((5, 3), 99.0)])
        before = codes.clone()
        moved = revive(codes, z, torch.Generator().manual_seed(0))
        assert moved >= 4
        assert torch.equal(codes[:2], before[:2])
        flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
        assert all((flat == code).all(1).any() for code in codes[3:])

    def test_standardising_leaves_every_reconstruction(self):
        torch.manual_seed(0)
        vq = FirstStage(32, (1, 1), 1, 16).vq
        with torch.no_grad():
            vq.quant_conv.bias += 3
            vq.quantize.embedding.weight += 3
            x = torch.randn(2, 3, 16, 16)
            before, z = vq(x).sample, vq.encode(x).latents
            standardise(vq, z)
            assert torch.allclose(vq(x).sample, before, atol=1e-4)
            assert vq.encode(x).latents.std(correction=0) == pytest.approx(1, abs=0.2)
            assert vq.encode(x).latents.mean((0, 2, 3)).abs().max() < 1e-4


def preset(name: str, *words: str) -> config.SynthesisTraining:
    cfg = composed("train_synthesis", [f"experiment=sca_dm/{name}", *words], REPOSITORY)
    return config.typed(cfg, config.SynthesisTraining)


class TestPresets:
    """``experiment=sca_dm/...``."""

    @pytest.fixture(autouse=True)
    def data(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SEMFACEDIFF_DATA", str(tmp_path))

    def test_the_papers_training(self):
        """As the published code trains: its sections on data, dropout and optimisation."""
        asked = preset("paper")
        d = asked.diffusion
        assert d.lr == pytest.approx(2e-6 * d.accumulate * d.batch_size)  # by the launcher, on one device
        assert (d.lr, d.batch_size, d.accumulate) == (9.6e-5, 8, 6)
        assert d.steps == 138_000  # 236 epochs of 584 steps are what was judged
        assert (d.weight_decay, d.warmup_steps, d.gradient_clip_norm) == (0.01, 0, None)
        assert (d.image_dropout, d.null_dropout, d.part_dropout) == (0.5, 0, 0)
        assert (d.ema_decay, d.precision) == (0.9999, "float32")
        assert d.ema_of == "all"  # ours
        assert (asked.stage, asked.data.name, asked.limit) == ("diffusion", "celebamask_hq", None)

    def test_the_papers_networks(self):
        o = train_synthesis.synthesis_options(preset("paper"), 19)
        assert o == SCADMOptions() == PRESETS["paper"]
        assert (o.classes, o.image_size, o.latent_shape) == (19, 256, (3, 64, 64))
        assert (o.style_down - 1, o.token_width, o.style_width) == (5, 256, 1280)
        assert (o.interleave_skips, o.absent_token, o.trained_null, o.prediction) == (False, False, False, "epsilon")
        assert o.mask_attention
        with torch.device("meta"):
            model = SCADM(o)
        parts = (model.unet, model.style_encoder, model.first_stage)
        counts = [sum(p.numel() for p in part.parameters()) for part in parts]
        assert counts == [486_912_387, 18_069_304, 55_322_782]
        attentions = [block.attn1 for block in model.unet.modules() if hasattr(block, "attn1")]
        heads = {attention.to_q.in_features: attention.heads for attention in attentions}
        assert heads == {448: 14, 672: 21, 896: 28}

    def test_the_ablation_differs_from_the_paper_in_two_values(self):
        paper, ablation = (preset(name).model_dump() for name in ("paper", "no_mask_attention"))
        found = {
            f"{group}.{key}": value
            for group in ("synthesis", "diffusion", "data", "vq")
            for key, value in ablation[group].items()
            if value != paper[group][key]
        }
        assert found == {"synthesis.mask_attention": False, "diffusion.image_dropout": 0.0}

    def test_small_is_one_model_in_both_places(self):
        cfg = composed("train_synthesis", ["synthesis=small"], REPOSITORY)
        asked = config.typed(cfg, config.SynthesisTraining)
        assert train_synthesis.synthesis_options(asked, 19) == PRESETS["small"]

    @pytest.mark.parametrize("name", ["small", "tiny"])
    def test_ours_have_the_corrected_variants_that_the_docs_name(self, name):
        o = train_synthesis.synthesis_options(preset(name), 19)
        assert (o.interleave_skips, o.trained_null, o.absent_token) == (True, True, False)
        assert o.prediction == ("v" if name == "tiny" else "epsilon")

    def test_tiny_trains_both_stages(self, tmp_path):
        few = ("runtime.device=cpu", "limit=3", "vq.steps=1", "diffusion.steps=1", "diffusion.sample_steps=1")
        assert tasks.start(preset("tiny", *few, "stage=first"), tmp_path / "first") == 0
        assert tasks.start(preset("tiny", *few, f"first_stage.checkpoint={tmp_path / 'first'}"), tmp_path / "run") == 0
        model, card = load_synthesis(tmp_path / "run" / "checkpoints" / "average")
        assert (model.options.image_size, model.options.prediction, card.training["steps"]) == (64, "v", 1)
        assert (tmp_path / "run" / "figures" / "samples_0000001.png").is_file()


@pytest.mark.slow
def test_tiny_learns_drawn_faces(tmp_path):
    """Some 25 minutes of one core: faces out of noise follow their label map and reconstructions have their skin."""

    def tiny(*words):
        return preset("tiny", "runtime.device=cpu", *words)

    assert tasks.start(tiny("stage=first"), tmp_path / "first") == 0
    assert tasks.start(tiny(f"first_stage.checkpoint={tmp_path / 'first'}"), tmp_path / "run") == 0
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["val_loss"].iloc[-1] < 0.9 * history["val_loss"].iloc[0]
    model, _ = load_synthesis(tmp_path / "run" / "checkpoints" / "average")
    making, drawn_faces = Synthesizer(model, SamplingOptions(steps=20)), ToyFaces(840, 64)
    unseen = [drawn_faces[i] for i in range(800, 812)]
    others = [*unseen[1:], unseen[0]]
    generated = [to_uint8(image) for image in making.generate(unseen).images]
    own, other = ([_explained(i, f.labels) for i, f in zip(generated, of, strict=True)] for of in (unseen, others))
    assert np.mean(own) > 0.6
    assert all(np.array(own) > np.array(other))
    again = [to_uint8(image) for image in making.reconstruct(unseen).images]
    skin = [[photo[f.labels == 1].mean() for photo in (f.photo, i)] for f, i in zip(unseen, again, strict=True)]
    assert np.corrcoef(np.array(skin).T)[0, 1] > 0.7


def _explained(photo, labels):
    """Share of the variance of a photo's colours that lies between the classes of a label map."""
    x, y = photo.reshape(-1, 3).astype(float), labels.reshape(-1)
    within = sum(((x[y == c] - x[y == c].mean(0)) ** 2).sum() for c in np.unique(y))
    return 1 - within / ((x - x.mean(0)) ** 2).sum()

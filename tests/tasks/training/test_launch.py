"""What accelerate launch and accelerate config ask of a training."""

import pytest

from semfacediff import config
from semfacediff.engine.devices import check_launch
from semfacediff.errors import UserError
from semfacediff.tasks.training.launch import FOLLOWED, following_launcher


@pytest.fixture
def settings(compose, monkeypatch):
    def settings(script: str, *words: str):
        monkeypatch.setenv("SEMFACEDIFF_OVERRIDES", " ".join(words))
        model = {"train_parser": config.ParserTraining, "train_synthesis": config.SynthesisTraining}[script]
        return config.typed(compose(script, *words), model)

    return settings


def asks(monkeypatch, **of):
    for name, value in of.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    check_launch(FOLLOWED)


@pytest.mark.parametrize(("asked", "precision"), [("bf16", "bfloat16"), ("fp16", "float16"), ("BF16", "bfloat16")])
def test_its_precision_is_taken_where_the_configuration_asks_for_none(settings, monkeypatch, capsys, asked, precision):
    asks(monkeypatch, MIXED_PRECISION=asked)
    assert following_launcher(settings("train_parser")).train.precision == precision
    assert capsys.readouterr().err == f"accelerate asks for it: train.precision={precision}\n"


@pytest.mark.parametrize(("stage", "group"), [("first", "vq"), ("diffusion", "diffusion")])
def test_each_stage_of_a_synthesis_has_its_own_keys(settings, monkeypatch, stage, group):
    asks(monkeypatch, MIXED_PRECISION="bf16")
    plain = settings("train_synthesis", f"stage={stage}")
    found = following_launcher(plain)
    assert (plain.steps.precision, found.steps.precision) == ("float32", "bfloat16")
    assert found.steps == getattr(found, group)
    asks(monkeypatch, GRADIENT_ACCUMULATION_STEPS=str(plain.steps.accumulate + 1))
    if plain.steps.accumulate > 1:  # the paper's, which is no default of ours to give up
        with pytest.raises(
            UserError, match=rf"{group}.accumulate=\d+, the configuration for {plain.steps.accumulate};"
        ):
            following_launcher(plain)
    else:
        assert following_launcher(plain).steps.accumulate == 2


def test_its_accumulation_is_taken(settings, monkeypatch):
    asks(monkeypatch, GRADIENT_ACCUMULATION_STEPS="3")
    assert following_launcher(settings("train_parser")).train.accumulate == 3


@pytest.mark.parametrize("nothing", ["", "no", "NO"])
def test_what_asks_for_nothing_changes_nothing(settings, monkeypatch, nothing):
    asks(monkeypatch, MIXED_PRECISION=nothing, GRADIENT_ACCUMULATION_STEPS="1")
    plain = settings("train_parser", "train.precision=bfloat16", "train.accumulate=2")
    assert following_launcher(plain) is plain


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (
            ["train.precision=float16"],
            {"MIXED_PRECISION": "bf16"},
            "train.precision=bfloat16, .* for float16; drop one",
        ),
        (
            ["train.precision=float32"],
            {"MIXED_PRECISION": "bf16"},
            "train.precision=bfloat16, .* for float32; drop one",
        ),
        (["train.accumulate=2"], {"GRADIENT_ACCUMULATION_STEPS": "4"}, "train.accumulate=4, the configuration for 2"),
        ([], {"MIXED_PRECISION": "fp8"}, "mixed precision fp8, expected no, bf16 or fp16"),
        ([], {"GRADIENT_ACCUMULATION_STEPS": "many"}, "expected a number from 1, got 'many'; unset it"),
    ],
)
def test_what_differs_or_is_unknown_is_refused(settings, monkeypatch, words, env, said):
    asks(monkeypatch, **env)
    with pytest.raises(UserError, match=said):
        following_launcher(settings("train_parser", *words))


def test_the_same_asked_twice_is_no_difference(settings, monkeypatch):
    asks(monkeypatch, MIXED_PRECISION="bf16", GRADIENT_ACCUMULATION_STEPS="2")
    plain = settings("train_parser", "train.precision=bfloat16", "train.accumulate=2")
    assert following_launcher(plain) is plain


def test_the_configuration_of_another_machine_is_followed_or_named(settings, monkeypatch):
    """Written where there were eight GPUs with float16; here ``accelerate launch`` starts one process on the CPU."""
    asks(monkeypatch, MIXED_PRECISION="fp16", USE_CPU="true", DYNAMO_BACKEND="no")
    assert following_launcher(settings("train_parser")).train.precision == "float16"
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    with pytest.raises(UserError, match=r"asked for several processes and started one.* torchrun"):
        check_launch(FOLLOWED)
    monkeypatch.delenv("MASTER_ADDR")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="asks for FSDP"):
        check_launch(FOLLOWED)


def test_an_evaluation_follows_neither(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UserError, match="which is not followed; trainings follow it"):
        check_launch()

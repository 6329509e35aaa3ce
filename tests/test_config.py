"""Every configuration composes and becomes typed; a mistake in it is one sentence with the key and the choices."""

import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from semfacediff import config, hydra_app
from semfacediff.engine.provenance import protocol_deviations
from semfacediff.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
EXPERIMENTS = ROOT / "experiments" / "experiment"
MODELS = {
    "train_parser": (config.ParserTraining,),
    "train_synthesis": (config.SynthesisTraining,),
    "evaluate": (config.EditingEvaluation, config.ParsingEvaluation, config.SynthesisEvaluation),
}
# What only the user can know.
PLACES = {
    "data/folder": {"data.root": "DIR"},
    "data/shards": {"data.root": "DIR"},
    "data/celebamask_hq": {"data.root": "DIR"},
    "data/lapa": {"data.root": "DIR"},
    "data/helen": {"data.root": "DIR"},
    "parser/precomputed": {"parser.root": "DIR"},
    "editor/precomputed": {"editor.root": "DIR"},
    "editor/sca_dm": {"editor.checkpoint": "DIR"},
    "editor/command": {"editor.command": "'sh {photo} {out}'"},
    "parser/python": {"parser.target": "semfacediff.parsing.ground_truth:GroundTruthParser"},
    "data/python": {"data.target": "semfacediff.data.toy:ToyFaces", "data.options": "{n: 3}"},
    "editor/python": {"editor.target": "semfacediff.editing.identity:Identity"},
    "optim/adam_then_sgd": {"train.best_by": "loss"},
}


@cache
def groups_of(primary):
    """Groups in the defaults list of a primary configuration."""
    defaults = yaml.safe_load((CONF / f"{primary}.yaml").read_text())["defaults"]
    return {key for entry in defaults if isinstance(entry, dict) for key in entry if " " not in key}


def composed(primary, overrides):
    """By Hydra itself, every time."""
    return hydra_app.composed(primary, overrides, ROOT)


@pytest.fixture
def typed(compose):
    return lambda primary, overrides=(): config.typed(compose(primary, *overrides), *MODELS[primary])


def choices():
    """(primary, group, choice) for every file of the vocabulary."""
    files = sorted(p.relative_to(CONF).with_suffix("") for p in CONF.glob("*/**/*.yaml"))
    return [
        (primary, f.parts[0], "/".join(f.parts[1:]))
        for f in files
        for primary in MODELS
        if f.parts[0] in groups_of(primary)
    ]


def experiments():
    return [str(p.relative_to(EXPERIMENTS).with_suffix("")) for p in sorted(EXPERIMENTS.rglob("*.yaml"))]


def primary_of(experiment):
    """An experiment says in its opening comment which script runs it."""
    text = (EXPERIMENTS / f"{experiment}.yaml").read_text()
    return next(p for p in MODELS if re.search(rf"python {p}\.py (-m )?experiment={experiment}\b", text))


def leaves(plain, prefix=()):
    """(path, value) of everything in nested dictionaries that is not a dictionary."""
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def assert_unchanged(preset, cfg, package):
    """Every leaf of the preset stands in the composed configuration as it is written."""
    written = OmegaConf.to_container(OmegaConf.load(preset), resolve=False)
    written.pop("defaults", None)
    written.pop("hydra", None)  # what a sweep goes through; no part of the composed configuration
    named = re.match(r"# @package (\w+)", preset.read_text())
    prefix = package if named is None else () if named[1] == "_global_" else (named[1],)
    composed = OmegaConf.to_container(cfg, resolve=False)
    for path, value in leaves(written):
        if value == "???":
            continue
        found = composed
        for part in (*prefix, *path):
            found = found[part]
        assert found == value, f"{preset.name}: {'.'.join(path)} became {found!r}"


def test_every_folder_of_the_vocabulary_is_in_use():
    folders = {p.name for p in CONF.iterdir() if p.is_dir() and p.name != "local"}
    assert folders == {group for primary in MODELS for group in groups_of(primary)} - {"experiment"}


@pytest.mark.parametrize("primary", MODELS)
def test_the_script_comes_first_and_presets_last(primary):
    defaults = yaml.safe_load((CONF / f"{primary}.yaml").read_text())["defaults"]
    assert defaults[0] == "_self_"
    assert {"experiment": None} in defaults


@pytest.mark.parametrize(("primary", "group", "choice"), choices())
def test_every_choice_composes_unchanged_and_becomes_typed(primary, group, choice):
    places = PLACES.get(f"{group}/{choice}", {})
    overrides = [f"{group}={choice}", *(f"{k}={v}" for k, v in places.items())]
    cfg = composed(primary, overrides)
    written = CONF / group / f"{choice}.yaml"
    if not places:
        assert_unchanged(written, cfg, (group,))
    settings = config.typed(cfg, *MODELS[primary])
    of_parsers = choice in ("ce7454", "segface") and group == "protocol"
    of_evaluation = "parsing" if of_parsers else "editing"
    assert settings.task == (of_evaluation if primary == "evaluate" else primary)


@pytest.mark.parametrize("experiment", experiments())
def test_every_experiment_composes_unchanged_and_becomes_typed(experiment, monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_DATA", "DIR")
    primary = primary_of(experiment)
    missing = OmegaConf.missing_keys(composed(primary, [f"experiment={experiment}"]))
    cfg = composed(primary, [f"experiment={experiment}", *(f"{key}=DIR" for key in missing)])
    assert_unchanged(EXPERIMENTS / f"{experiment}.yaml", cfg, ())
    assert isinstance(config.typed(cfg, *MODELS[primary]), MODELS[primary])


def test_the_command_line_wins_over_an_experiment(typed):
    settings = typed("train_parser", ["experiment=demo/parser", "train.epochs=3", "seed=7"])
    assert (settings.train.epochs, settings.seed, settings.name) == (3, 7, "demo_parser")


@pytest.mark.parametrize(
    ("primary", "override", "message"),
    [
        (
            "evaluate",
            "+editr=recolor",
            r"unknown key 'editr'; did you mean 'editor'\? known here: attributes, cascade, composite",
        ),
        (
            "evaluate",
            "+region.dilate=3",
            r"unknown key 'region.dilate'; did you mean 'dilate_px'\? known here: dilate_px",
        ),
        ("evaluate", "+data.siz=3", r"unknown key 'data.siz'; did you mean 'size'\? known here: count, n, name, seed"),
        (
            "evaluate",
            "+data.split_rule.mod=3",
            r"unknown key 'data.split_rule.mod'; .*known here: by, modulo, test, val",
        ),
        (
            "evaluate",
            "+editor.power=3",
            r"unknown key 'editor.power'; .*known here: name, no_colour, repeats, strength",
        ),
        ("train_parser", "+optim.lr=3", r"unknown key 'optim.lr'; .*known here: decay_norms_and_biases, decoder_lr"),
        ("evaluate", "seed=a", r"seed: input should be a valid integer, got 'a'"),
        ("evaluate", "seed=1.5", r"seed: input should be a valid integer, got 1.5"),
        ("evaluate", "seed=null", r"seed: input should be a valid integer, got None"),
        ("evaluate", "data.size='64'", r"data.size: input should be a valid integer, got '64'"),
        ("train_parser", "train.keep_in_memory=1", r"train.keep_in_memory: input should be a valid boolean, got 1"),
        ("evaluate", "data.size=16", r"data.size: input should be greater than or equal to 32, got 16"),
        ("evaluate", "editor.strength=1.5", r"editor.strength: input should be less than or equal to 1, got 1.5"),
        ("evaluate", "editor.strength=nan", r"editor.strength: input should be .* got nan"),
        ("evaluate", "limit=0", r"limit: input should be greater than or equal to 1, got 0"),
        ("train_parser", "train.batch_size=0", r"train.batch_size: input should be greater than or equal to 1, got 0"),
        ("train_parser", "optim.decoder_lr=0", r"optim.decoder_lr: input should be greater than 0, got 0"),
        ("train_parser", "loss.label_smoothing=1", r"loss.label_smoothing: input should be less than 1, got 1"),
        ("evaluate", "composite=on", r"composite: input should be 'off', 'blend' or 'exact', got 'on'"),
        ("evaluate", "data.split=dev", r"data.split: input should be 'train', 'val', 'test' or 'all', got 'dev'"),
        (
            "evaluate",
            "runtime.device=gpu",
            r"runtime.device: expected auto, cpu, mps, cuda or cuda:N \(the N-th device, from 0\), got 'gpu'",
        ),
        (
            "evaluate",
            "metrics.columns=[ssim,fidelity]",
            r"metrics.columns.1: expected .*psnr, seam, ssim or .*, got 'fidelity'",
        ),
        ("evaluate", "data.name=video", r"data 'video': expected DATA in semfacediff/data/video.py or an entry"),
        ("evaluate", "task=drawing", r"task: expected one of editing, parsing, synthesis, got 'drawing'"),
        ("evaluate", "task=[1,2]", r"task: expected one of editing, parsing, synthesis, got '\[1, 2\]'"),
        ("evaluate", "attributes=[hair,beard]", r"unknown attribute 'beard'; choose one of hair, lips, skin, eyes"),
        ("evaluate", "attributes=[hair,hair]", r"attributes: expected each once, got \['hair', 'hair'\]"),
        ("evaluate", "attributes=[]", r"attributes: list should have at least 1 item .*got \[\]"),
        ("evaluate", "+prompts.beard=red", r"unknown attribute 'beard'; choose one of hair, lips"),
        ("evaluate", "prompts.hair=' '", r"the prompt for 'hair' is empty; set prompts.hair='...'"),
        ("evaluate", "data=folder", r"data.root is not set; set data.root=DIR or the environment variable"),
        ("evaluate", "editor=precomputed", r"Missing mandatory value: .*; set editor.root=\.\.\."),
        ("evaluate", "parser.root=DIR", r"parser.root belongs to parser=precomputed, which needs it: parser.root=DIR"),
        ("evaluate", "parser.name=precomputed", r"parser.root belongs to parser=precomputed, which needs it"),
        ("evaluate", "name='${nothing}'", r"configuration: Interpolation key 'nothing' not found; set name=..."),
        ("evaluate", "data.split_rule.val=[10]", r"data.split_rule: val and test are disjoint .* 0..9, got val=\[10\]"),
        ("evaluate", "data.split_rule.test=[0]", r"data.split_rule: val and test are disjoint .*val=\[0\] test=\[0\]"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_key_and_the_choices(primary, override, message, typed):
    with pytest.raises(UserError, match=message) as caught:
        typed(primary, [override])
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_parser_that_reads_no_checkpoint_refuses_one(typed):
    with pytest.raises(UserError, match=r"parser=ground_truth reads no checkpoint; drop parser.checkpoint"):
        typed("evaluate", ["parser=ground_truth", "parser.checkpoint=RUN"])


def test_several_mistakes_are_named_at_once(typed):
    with pytest.raises(UserError) as caught:
        typed("evaluate", ["seed=a", "limit=0", "+foo=1"])
    assert all(key in str(caught.value) for key in ("seed:", "limit:", "unknown key 'foo'"))


@pytest.mark.parametrize("word", ["off", "blend", "exact"])
def test_words_that_yaml_takes_for_booleans_stay_words(word, typed):
    assert typed("evaluate", [f"composite={word}"]).composite == word


def test_whole_numbers_are_fractions_too(typed):
    assert typed("evaluate", ["editor.strength=1"]).editor.strength == 1.0


class TestParsingTask:
    def test_what_only_edits_need_is_left_alone(self, typed):
        settings = typed("evaluate", ["task=parsing", "attributes=[beard]", "editor=identity"])
        assert isinstance(settings, config.ParsingEvaluation)
        assert not hasattr(settings, "editor")

    def test_an_unknown_key_is_refused_all_the_same(self, typed):
        with pytest.raises(UserError, match=r"unknown key 'limt'; did you mean 'limit'\?"):
            typed("evaluate", ["task=parsing", "+limt=3"])


class TestDigest:
    @pytest.fixture
    def digest(self, typed):
        return lambda *overrides: config.digest(config.scientific(typed("evaluate", overrides)))

    @pytest.mark.parametrize(
        "override",
        ["runtime.workers=7", "runtime.device=cpu", "name=other", "weights.root=DIR", "parser.checkpoint=RUN"],
    )
    def test_names_places_and_speed_do_not_matter(self, override, digest):
        assert digest(override) == digest()

    @pytest.mark.parametrize(
        "override",
        ["seed=1", "data.seed=1", "editor.strength=0.5", "protocol=thesis", "prompts.hair=red", "limit=3", "data.n=3"],
    )
    def test_what_changes_the_numbers_does(self, override, digest):
        assert digest(override) != digest()

    def test_the_place_of_the_data_does_not_matter(self, digest):
        assert digest("data=folder", "data.root=A") == digest("data=folder", "data.root=B")

    def test_it_is_of_the_canonical_json(self):
        assert config.digest({"b": 1, "a": [1.5, None]}) == config.digest({"a": [1.5, None], "b": 1})
        assert config.digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_settings_are_frozen(typed):
    settings = typed("evaluate")
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1


def test_models_have_no_defaults_that_the_files_could_contradict():
    """Values must be readable in conf/; defaults have parts that presets leave out, and keys that conf/ sets apart."""
    models = [m for _, m in inspect.getmembers(config, inspect.isclass) if issubclass(m, config.Closed)]
    with_defaults = {(m.__name__, n) for m in models for n, f in m.model_fields.items() if not f.is_required()}
    parts = {"SplitRuleConfig", "StageConfig", "CascadeConfig", "PromptsConfig"}
    assert {n for model, n in with_defaults if model not in parts} <= {"repeats", "options"}


def test_the_repository_is_found():
    assert config.repository() == ROOT


def test_identity_holds_what_changes_a_result_and_nothing_else(compose):
    def identity(*words):
        return config.scientific(config.typed(compose("evaluate", *words), config.EditingEvaluation))

    plain = identity()
    for word in ("strips=0", "metrics.on_missing=skip", "prompts.hat=red hat", "runtime.batch_size=2", "name=x"):
        assert identity(word) == plain, word
    for word in ("seed=1", "composite=off", "prompts.hair=red hair", "region.dilate_px=5", "data.n=3", "limit=3"):
        assert identity(word) != plain, word


def test_deviations_from_a_protocol_are_named(compose):
    def deviations(*words):
        return protocol_deviations(config.typed(compose("evaluate", *words), config.EditingEvaluation))

    assert deviations("protocol=thesis") == deviations("protocol=strict") == []
    assert deviations("protocol=thesis", "composite=exact") == ["composite = exact instead of off"]

"""What reaches the editor: negative prompts, expansion, and who is told what."""

import json

import pandas as pd
import pytest
import torch
import yaml

from semfacediff import config, tasks
from semfacediff.editing.base import Editor
from semfacediff.editing.diffusion import InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.tasks.editing.prompts import PromptRules, prompt_source, read_lexicon, resolve_prompt, show

GENERIC = "distorted, blurry"
SMALL = (
    "data=folder parser=ground_truth metrics=no_weights weights.download=false strips=0 attributes=[hair,lips] "
    "runtime.device=cpu runtime.workers=0"
).split()
TINY = "editor=sdxl_inpaint editor.native_size=64 editor.steps=2".split()


class Counting:
    """A tokenizer of one token a word, with two marks."""

    model_max_length = 40

    def __call__(self, text, **_):
        return {"input_ids": [0] * (len(text.split()) + 2)}


class Reader(Editor):
    name = "reader"

    def __init__(self, *tokenizers):
        self._tokenizers = list(tokenizers)

    def tokenizers(self):
        return self._tokenizers


def rules(negatives="attribute_aware", expansion=False):
    return PromptRules(negatives, GENERIC, expansion)


def words_of(prompt, own=None, rule=None, editor=None):
    return resolve_prompt("hair", prompt, own, rule or rules(), editor or Reader(Counting()), "for 'hair'")


def test_an_editor_with_text_encoders_is_told_what_to_avoid():
    said = words_of("straight hair").words
    assert said.prompt == said.read == "straight hair"
    assert said.negative_prompt.startswith("distorted, blurry, wavy hair, curly hair")
    assert words_of("straight hair", rule=rules("generic")).words.negative_prompt == "distorted, blurry"
    assert words_of("straight hair", rule=rules("none")).words.negative_prompt is None
    assert words_of("straight hair", rule=rules("empty")).words.negative_prompt == ""


def test_an_editor_without_is_told_nothing():
    assert words_of("straight hair", editor=Reader()).words.negative_prompt is None
    assert words_of("straight hair", rule=rules("empty"), editor=Reader()).words.negative_prompt is None
    with pytest.raises(UserError, match="the negative prompt for 'hair': editor 'reader' reads none"):
        words_of("straight hair", own="waves", editor=Reader())


def test_a_negative_prompt_that_guidance_leaves_out_is_not_recorded(tiny_sdxl):
    files = find_pipeline("sdxl_inpaint", None, str(tiny_sdxl), download=False)

    def words(guidance, own=None):
        options = InpaintOptions(guidance=guidance)
        editor = InpaintEditor("sdxl_inpaint", files, options, torch.device("cpu"), MemoryProfile())
        return words_of("straight hair", own, editor=editor).words.negative_prompt

    assert "curly hair" in words(1.5)
    assert words(1.0) is words(0.0) is None
    with pytest.raises(UserError, match=r"editor 'sdxl_inpaint' reads none; leave it out or .*guidance over 1$"):
        words(1.0, own="curls")


def test_ones_own_negative_prompt_is_taken_as_it_is():
    assert words_of("straight hair", own="waves").words.negative_prompt == "waves"
    assert words_of("straight hair", own="waves", rule=rules("none")).words.negative_prompt == "waves"


def test_what_finds_no_room_is_said(capsys):
    tight = Counting()
    tight.model_max_length = 8
    made = words_of("straight hair", editor=Reader(tight))
    assert made.words.negative_prompt == "distorted, blurry, wavy hair, curly hair"
    assert made.left_out[0] == "coily hair"
    show([made])
    assert "hair: left out of the negative prompt, which is full: coily hair, " in capsys.readouterr().err
    assert made.facts()["negative_terms_left_out"] == made.left_out


def test_an_expanded_prompt_is_read_and_the_short_one_kept():
    made = words_of("brown", rule=rules(expansion=True)).words
    assert (made.prompt, made.read) == ("brown", "brown hair, natural strands, soft shine")
    assert words_of("brown").words.expanded_prompt is None


def test_sources():
    prompts = yaml.safe_load((config.repository() / "conf" / "prompts" / "evaluation.yaml").read_text())
    assert set(prompts) == set(read_lexicon())
    of_thesis = {a for a, prompt in prompts.items() if prompt_source(a, prompt) == "thesis"}
    assert of_thesis == {"hair", "lips", "skin", "eyes", "eyebrows"}
    assert {prompt_source(a, p) for a, p in prompts.items() if a not in of_thesis} == {"ours"}
    assert prompt_source("hair", "red hair") == "user"


def settings(root, *overrides):
    return config.typed(
        composed("evaluate", [*SMALL, f"data.root={root}", *overrides], config.repository()), config.EditingEvaluation
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files):
    return write_files(tmp_path_factory.mktemp("files"), [(64, 64)])


def negatives(folder):
    return pd.read_parquet(folder / "samples.parquet").set_index("attribute")["negative_prompt"].to_dict()


def test_a_run_records_what_its_editor_was_told(files, tiny_sdxl, tmp_path, capsys):
    tiny = [*TINY, f"weights.root={tiny_sdxl}", "negative_prompts={lips: chapped}"]
    assert tasks.start(settings(files, *tiny), tmp_path) == 0
    said = negatives(tmp_path)
    assert said["lips"] == "chapped"
    assert said["hair"].startswith("distorted, artefact, unnatural, blurry, low quality, disfigured, malformed, ")
    assert "blonde hair" in said["hair"]
    assert f"hair: negative prompt: {said['hair']}" in capsys.readouterr().err
    run = json.loads((tmp_path / "run.json").read_text())
    assert [(p["attribute"], p["prompt_source"]) for p in run["prompts"]] == [("hair", "thesis"), ("lips", "thesis")]
    assert run["identity"]["inputs"]["words"]["lips"] == [None, "chapped"]
    with pytest.raises(UserError, match=r"belongs to another configuration: config\.negatives was 'attribute_aware'"):
        tasks.start(settings(files, *tiny, "negatives=generic"), tmp_path)


@pytest.mark.parametrize("overrides", [["editor=recolor"], ["editor=recolor", "protocol=thesis", "working_size=64"]])
def test_recolor_is_told_none(files, tmp_path, overrides):
    assert tasks.start(settings(files, *overrides), tmp_path) == 0
    assert set(negatives(tmp_path).values()) == {None}
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["identity"]["inputs"]["words"] is None
    assert run["identity"]["config"]["negatives"] is None
    assert run["protocol_deviations"] == ([] if len(overrides) == 1 else ["working_size = 64 instead of 1024"])


def test_a_long_prompt_ends_the_run_before_it_begins(files, tiny_sdxl, tmp_path):
    words = [*TINY, f"weights.root={tiny_sdxl}", f"prompts.hair='{'red ' * 500}'"]
    with pytest.raises(
        UserError, match=r"the prompt for 'hair': 'red .* has 502 tokens, tokenizer 1 of 2 .* shorten it"
    ):
        tasks.start(settings(files, *words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recolor_reads_500_words(files, tmp_path):
    assert tasks.start(settings(files, "editor=recolor", f"prompts.hair='{'red ' * 500}'"), tmp_path) == 0


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("prompts.hair='?!'", r"the prompt for 'hair' has no words \('\?!'\); set prompts.hair='...'"),
        ("prompts.hair=''", "the prompt for 'hair' is empty; set prompts.hair='...'"),
        ("negative_prompts={beard: x}", "unknown attribute 'beard'"),
        ("negative_prompts={hair: ''}", "the negative prompt for 'hair' is empty; leave it out or set negatives=none"),
        ("negatives=all", "negatives: input should be 'none', 'empty', 'generic' or 'attribute_aware', got 'all'"),
    ],
)
def test_mistakes(files, override, said):
    with pytest.raises(UserError, match=said):
        settings(files, override)


@pytest.mark.parametrize("prompt", ["茶色の髪", "🔥", "рыжие", "42", "naïve"])
def test_words_of_any_script_are_words(prompt):
    assert config.without_words(prompt) is None

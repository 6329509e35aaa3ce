"""Names of default folders: of what determines the results, and of nothing else."""

import shutil

import pytest

from semfacediff import config, tasks
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.records.folder import beside_other_data
from semfacediff.tasks.folder_digest import folder_digest

BASE = ("data=folder", "data.root=A", "parser=ground_truth")


@pytest.fixture
def digest(compose):
    def digest(*words):
        cfg = compose("evaluate", *BASE, *words)
        return folder_digest(config.typed(cfg, config.EditingEvaluation, config.ParsingEvaluation))

    return digest


@pytest.mark.parametrize(
    "words",
    [
        ["data.root=/another/place"],
        ["runtime.device=cpu", "runtime.workers=0", "runtime.batch_size=1"],
        ["tracking=wandb"],
        ["weights.root=W", "weights.download=false", "metrics.on_missing=skip"],
        ["strips=0", "name=other"],
        ["negatives=none"],
        ["shard.index=0", "shard.count=1"],
    ],
)
def test_where_and_how_a_run_is_made_does_not_name_it(digest, words):
    assert digest(*words) == digest()


@pytest.mark.parametrize(
    "words",
    [
        ["composite=off"],
        ["seed=1"],
        ["limit=3"],
        ["shard.index=1", "shard.count=2"],
        ["weights.lpips_alexnet=random"],
        ["prompts.hair=red hair"],
        ["data.n=3"],
    ],
)
def test_what_is_asked_for_names_a_run(digest, words):
    assert digest(*words) != digest()


def test_a_checkpoint_counts_by_what_it_holds(compose, tiny_checkpoint, tmp_path):
    def of(path):
        cfg = compose("evaluate", f"parser.checkpoint={path}")
        return folder_digest(config.typed(cfg, config.EditingEvaluation))

    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    assert of(copy) == of(tiny_checkpoint)
    card = copy / "parser.json"
    card.write_text(card.read_text().replace('"input_size": ', '"input_size": 1'))
    assert of(copy) != of(tiny_checkpoint)
    assert of("nowhere") != of(tiny_checkpoint)


def test_folders_of_edits_count_by_their_name(repository):
    def of(root):
        cfg = composed("evaluate", [*BASE, "editor=precomputed", f"editor.root={root}"], repository)
        return folder_digest(config.typed(cfg, config.EditingEvaluation))

    assert of("x/tool") == of("/y/tool/") != of("x/another")


def test_other_data_go_beside_a_default_folder_and_are_refused_in_a_named_one(compose, toy_folder, tmp_path, capsys):
    small = ["metrics=no_weights", "attributes=[hair]", "strips=0", "runtime.workers=0", "data.split=all"]

    def settings(root):
        cfg = compose("evaluate", *BASE, *small, f"data.root={root}")
        return config.typed(cfg, config.EditingEvaluation)

    one, other = toy_folder(1, name="one"), toy_folder(2, name="other")
    for root in (one, other, one, other):
        assert tasks.start(settings(root), tmp_path / "faces-0123abcd") == 0
    assert "holds the same configuration on other data; this run goes to" in capsys.readouterr().err
    assert len(list(tmp_path.glob("faces-0123abcd*/run.json"))) == 2
    assert tasks.start(settings(one), tmp_path / "mine") == 0
    with pytest.raises(UserError, match=r"mine belongs to another configuration: inputs.data was"):
        tasks.start(settings(other), tmp_path / "mine")
    assert beside_other_data(tmp_path / "new-0123abcd", {}) == tmp_path / "new-0123abcd"

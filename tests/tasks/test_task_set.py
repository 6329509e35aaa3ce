"""Task sets: what a file may hold, what ``tasks_v1`` asks for, and runs whose prompts differ by photo."""

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.colours.grammar import named_colour
from semfacediff.data.celebamask_hq import OfficialFaces
from semfacediff.data.celebamask_layout import index_official
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.shards import index_shards
from semfacediff.data.toy import ToyFaces
from semfacediff.data.toy_official import write_official
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import ATTRIBUTES, CELEBAMASK
from semfacediff.records.pairing import scored_samples
from semfacediff.tasks.editing import generated_tasks as v1
from semfacediff.tasks.editing.task_set import COLUMNS, EditTask, TaskSet, ordered, read_tasks, write_tasks
from semfacediff.types import FaceSample

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER = ",".join(COLUMNS)
GOOD = "00000,hair,recolour,green hair,green"


def written(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    file = tmp_path / "mine.csv"
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


# --------------------------------------------------------------------------------------------------------------------
# Files.


def test_a_file_is_read_as_it_was_written(tmp_path):
    given = [
        EditTask("007", "hair", "recolour", 'dark "red", shiny hair', "dark red"),
        EditTask("1", "hat", "add", "帽子"),
    ]
    write_tasks(tmp_path / "mine.csv", given)
    assert read_tasks(tmp_path / "mine.csv") == given
    (tmp_path / "mine.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "mine.csv").read_bytes())  # as Excel saves it
    assert read_tasks(tmp_path / "mine.csv") == given


def test_columns_may_stand_in_any_order(tmp_path):
    file = written(tmp_path, ",a hat,add,hat,3", header="target,prompt,kind,attribute,sample_id")
    assert read_tasks(file) == [EditTask("3", "hat", "add", "a hat")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD, r"line 3: hair of photo '00000' has a task in line 2 already; a photo has one task an attribute"),
        ("1,hare,keep,x,", r"line 3: unknown attribute 'hare'; expected one of hair, lips"),
        ("1,hair,recolor,x,", r"line 3: unknown kind 'recolor'; expected one of recolour, restyle, add, remove, keep"),
        ("1,hair,add,hair,", r"line 3: hair cannot be added, only glasses, earrings, necklace, hat can"),
        ("1,hair,keep,,", r"line 3: the prompt is empty"),
        ("1,hair,keep,!?,", r"line 3: the prompt has no words"),
        (",hair,keep,x,", r"line 3: no sample_id"),
        ("1,hair,keep,x", r"line 3: expected 5 cells"),
        ("1,hair,keep,x,,", r"line 3: expected 5 cells"),
        ("1,hair,recolour,red hair,blonde", r"line 3: the target 'blonde' is no colour of CSS4 or XKCD"),
        ("1,hair,recolour,red hair,blue", r"line 3: the prompt 'red hair' does not name the target 'blue'"),
        ("1,hair,recolour,blue eyes,blue", r"line 3: the prompt 'blue eyes' does not name the target 'blue'"),
    ],
)
def test_a_row_that_is_no_task_is_named(tmp_path, line, said):
    with pytest.raises(UserError, match=said + r".*; correct the file"):
        read_tasks(written(tmp_path, GOOD, line))


def test_the_other_wrong_rows_are_counted(tmp_path):
    with pytest.raises(UserError, match=r"line 2: no sample_id \(and 1 more\); correct the file"):
        read_tasks(written(tmp_path, ",hair,keep,x,", GOOD, ",lips,keep,x,"))


def test_what_is_no_task_set_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected the columns sample_id, .*, got sample_id, prompt"):
        read_tasks(written(tmp_path, header="sample_id,prompt"))
    with pytest.raises(UserError, match=r"has no task; add a row for each edit"):
        read_tasks(written(tmp_path))
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\)"):
        read_tasks(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(f"{HEADER}\n1,hair,keep,".encode() + b"\xe9,\n")
    with pytest.raises(UserError, match="no CSV file in UTF-8"):
        read_tasks(tmp_path / "latin.csv")


def task(id_: str, attribute: str = "hair") -> EditTask:
    return EditTask(id_, attribute, "keep", "unchanged")


def test_tasks_take_the_order_of_the_data_set_and_the_attributes():
    given = [task("9"), task("9", "lips"), task("10", "lips")]
    found = ordered("mine.csv", given, ["10", "9", "8"], ["lips", "hair"])
    assert [(t.sample_id, t.attribute) for t in found.tasks] == [("10", "lips"), ("9", "lips"), ("9", "hair")]
    assert found.digest == TaskSet("other.csv", given).digest, "order and name have no part in it"
    assert found.digest != TaskSet("mine.csv", given[1:]).digest


def test_a_set_that_does_not_fit_the_data_is_refused():
    with pytest.raises(UserError, match=r"2 of 3 tasks are of photos that the data set does not have \(first 'x'\)"):
        ordered("mine.csv", [task("1"), task("x"), task("y")], ["1"], ["hair"])
    with pytest.raises(
        UserError, match=r"has tasks for hair, lips, attributes= names hair; set attributes=\[hair,lips\]"
    ):
        ordered("mine.csv", [task("1"), task("1", "lips")], ["1"], ["hair"])
    assert ordered("mine.csv", [task("1"), task("x")], ["1"], ["hair"], {"x": "truncated"}).tasks == [task("1")]
    assert ordered("mine.csv", [task("1"), task("x")], ["1"], ["hair"], None).tasks == [task("1")], "limit="


# --------------------------------------------------------------------------------------------------------------------
# tasks_v1.


def asked(samples, attributes=tuple(ATTRIBUTES), seed=0) -> TaskSet:
    return v1.generated(samples, CELEBAMASK, attributes, seed)


def test_every_prompt_names_its_target_and_no_other_names_a_colour():
    for attribute, names in v1.COLOURS.items():
        colours = [named_colour(name, attribute) for name in names]
        assert None not in colours
        assert len(set(colours)) == len(names)
        assert [named_colour(f"{name} {attribute}", attribute) for name in names] == colours
    others = [(f"{style} {a}", a) for a, styles in v1.STYLES.items() for style in styles]
    others += [(text, a) for texts in (v1.ADDED, v1.REMOVED) for a, text in texts.items()]
    others += [(f"the same {a}, unchanged", a) for a in ATTRIBUTES]
    assert [(text, a) for text, a in others if named_colour(text, a)] == []
    assert v1.STYLES.keys() == ATTRIBUTES.keys()


def test_kinds_apply_where_they_can(toy_samples):
    samples = {s.id: s for s in toy_samples(16)}
    found = asked(samples.values()).tasks
    assert {t.kind for t in found} == set(config.KINDS)
    for t in found:
        sample = samples[t.sample_id]
        region = np.isin(sample.labels, [CELEBAMASK.index(c) for c in ATTRIBUTES[t.attribute]])
        assert region.any() == (t.kind != "add")
        if t.kind == "recolour":  # a photo of 64 px is not brought to the grid: the mean is that of all pixels
            mean = rgb2lab(sample.photo)[region].mean(0)
            target = rgb2lab(np.array([named_colour(t.target, t.attribute)], np.uint8) / 255)[0]
            assert deltaE_ciede2000(mean, target) > v1.LEAST_DE - 0.01  # CIELAB in float32, means of up to 4096


def test_a_task_depends_on_its_photo_and_the_seed_alone(toy_samples):
    samples = toy_samples(8)
    whole = asked(samples)
    assert asked(reversed(samples), tuple(reversed(ATTRIBUTES))).digest == whole.digest
    assert asked(samples[3:4]).tasks == [t for t in whole.tasks if t.sample_id == samples[3].id]
    assert asked(samples, ["hair"]).tasks == [t for t in whole.tasks if t.attribute == "hair"]
    assert asked(samples, seed=1).digest != whole.digest


def test_the_words_of_a_version_stay():
    """Another list of words, another order of draws: another name."""
    sample = FaceSample("1", np.full((8, 8, 3), 128, np.uint8), np.full((8, 8), CELEBAMASK.index("hair"), np.uint8))
    found = [asked([sample], ["hair"], seed).tasks[0].prompt for seed in range(8)]
    assert found == (
        ["straight hair", "wavy hair", "straight hair", "wavy hair"]
        + ["green hair", "white hair", "straight hair", "the same hair, unchanged"]
    )


def test_the_same_through_every_layout(tmp_path, encode, make_tar):
    numbers = [0, 7, 12]
    write_official(tmp_path / "official", numbers)
    official = OfficialFaces(index_official(tmp_path / "official", True).entries)
    samples = [official[i] for i in range(3)]
    for folder, kind in (("images", "photo"), ("masks", "labels")):
        (tmp_path / "folder" / folder).mkdir(parents=True)
        for s in samples:
            (tmp_path / "folder" / folder / f"{s.id}.png").write_bytes(encode(getattr(s, kind)))
    (tmp_path / "shards").mkdir()
    members = {f"{s.id}.webp": encode(s.photo, "webp", lossless=True) for s in samples}
    make_tar(tmp_path / "shards" / "a.tar", members | {f"{s.id}.png": encode(s.labels) for s in samples})
    indices = (
        index_folder(tmp_path / "folder", "images", "masks", True),
        index_shards(tmp_path / "shards", "*.tar", True),
    )
    others = [FileFaces(index.candidates, CELEBAMASK) for index in indices]
    first, *rest = (asked(faces[i] for i in range(3)) for faces in (official, *others))
    assert all(found == first for found in rest)
    assert len(first.tasks) > 20


@pytest.mark.parametrize("name", ["hair", "skin"])
def test_a_grey_photo_of_one_region(name):
    grey = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    sample = FaceSample("1", grey, np.full((64, 64), CELEBAMASK.index(name), np.uint8))
    found = [asked([sample], seed=seed).tasks for seed in range(8)]
    assert {t.attribute for each in found for t in each} == {name}, "nothing else is there, and nothing has a place"
    assert {t.kind for each in found for t in each} == {"recolour", "restyle", "keep"}


# --------------------------------------------------------------------------------------------------------------------
# Runs.

TOY = (
    "data=toy data.count=5 data.size=64 parser=ground_truth metrics=no_weights metrics.columns=[effect,ssim,iou] "
    "strips=0 runtime.device=cpu runtime.workers=0"
).split()
GENERATED = {"prompts": {"generated": "tasks_v1"}, "attributes": ["skin", "glasses"]}


@functools.cache
def plain() -> dict:
    """The configuration that the runs have in common; composing it takes longer than a run."""
    return config.typed(composed("evaluate", TOY, REPOSITORY), config.EditingEvaluation).model_dump()


def settings(**changed) -> config.EditingEvaluation:
    """``plain`` with some keys changed; those of a group below the group's name."""
    groups = {k: plain()[k] | v if k in ("prompts", "runtime", "shard") else v for k, v in changed.items()}
    return config.checked(config.EditingEvaluation, plain() | groups)


def run(folder: Path, **changed) -> Path:
    assert tasks.start(settings(**changed), folder) == 0
    return folder


IDLE = {"name": "identity"}


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "samples.parquet").drop(columns=["latency_s", "peak_memory_mib"])


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("tasks") / "whole", **GENERATED)


def test_a_run_edits_every_photo_to_its_own_task(whole):
    found = rows(whole)
    listed = read_tasks(whole / "tasks.csv")
    assert listed == list(asked((ToyFaces(5, 64)[i] for i in range(5)), ["skin", "glasses"]).tasks)
    by_key = {(t.sample_id, t.attribute): t for t in listed}
    assert len(found) == len(listed) == record(whole)["n"] == record(whole)["n_expected"]
    for row in found.to_dict("records"):
        t = by_key[row["sample_id"], row["attribute"]]
        assert (row["kind"], row["prompt"], row["target"]) == (t.kind, t.prompt, t.target)
        assert (row["source_distance"] > 10) == (t.kind == "recolour"), "far from the colour, or no colour is named"


def test_scores_by_kind_and_distance(whole):
    found, table = rows(whole), pd.read_csv(whole / "summary_by_kind.csv").set_index(["attribute", "kind", "distance"])
    assert pd.read_csv(whole / "summary.csv")["attribute"].tolist() == ["skin", "glasses"]
    for kind, group in found.groupby("kind"):
        assert table.at[("all", kind, "all"), "n"] == len(group)
        assert table.at[("all", kind, "all"), "change_de_mean"] == pytest.approx(group["change_de"].mean(), rel=1e-9)
        for attribute, own in group.groupby("attribute"):
            assert table.at[(attribute, kind, "all"), "n"] == len(own)
    table = table.sort_index()
    counts = table.loc[("all", "all")]["n"]
    bins = pd.cut(
        found["source_distance"], [0, 10, 25, 50, np.inf], right=False, labels=["0-10", "10-25", "25-50", "50+"]
    )
    assert counts.to_dict() == bins.value_counts()[lambda n: n > 0].to_dict()
    assert (
        table.loc[("all", "keep", "all"), ["n_unchanged", "n_already"]] == [(found["kind"] == "keep").sum(), 0]
    ).all()
    assert len(table) == 2 + len(found.groupby("kind")) + len(found.groupby(["attribute", "kind"])) - 2 + len(counts)


def test_a_file_of_the_same_tasks_is_the_same_set(whole, tmp_path, capsys):
    lines = (whole / "tasks.csv").read_text().splitlines()
    file = written(tmp_path, *reversed(lines[1:]))
    named = GENERATED | {"prompts": {"file": str(file)}}
    other = run(tmp_path / "other", **named, runtime={"batch_size": 3})
    assert record(other)["identity"]["inputs"]["tasks"] == record(whole)["identity"]["inputs"]["tasks"]
    pd.testing.assert_frame_equal(rows(other), rows(whole), check_exact=True)
    idle = run(tmp_path / "idle", **named, editor=IDLE)
    found = scored_samples(idle)[1]
    assert (found["status"] == "unchanged").all()
    assert found["idle"].tolist() == (found["kind"] != "keep").tolist(), "no change is the right answer of keep"
    assert main(["compare", str(whole), str(idle), "--score", "toward_prompt"]) == 0
    said = capsys.readouterr().out
    assert "**second**" not in said
    for attribute, n in found[found["kind"] != "keep"]["attribute"].value_counts().items():
        assert f"{attribute} of the second unchanged in {n} of {n}" in said
    assert (found["kind"] == "keep").any(), "which would count otherwise"


def test_the_report_shows_the_scores_by_kind(whole, tmp_path):
    assert main(["report", str(whole), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    table = page.split("By kind of task: ")[1].split("</table>")[0]
    kinds = pd.read_csv(whole / "summary_by_kind.csv").query("attribute == 'all'")
    for kind, distance, n in kinds[["kind", "distance", "n"]].itertuples(index=False):
        assert f'<th scope="row">{kind}</th><td class="text">{distance}</td><td>{n}</td>' in table


def test_runs_of_different_sets_are_not_compared(whole, tmp_path, capsys):
    other = run(tmp_path / "other", **GENERATED | {"prompts": {"generated": "tasks_v1", "seed": 1}}, editor=IDLE)
    assert main(["compare", str(whole), str(other)]) == 2
    assert "cannot be compared: the task set's digest is" in capsys.readouterr().err


@pytest.mark.slow
def test_shards_are_merged_to_the_whole(whole, tmp_path):
    parts = [run(tmp_path / f"part{i}", **GENERATED, shard={"index": i, "count": 2}) for i in range(2)]
    assert len({record(part)["identity"]["inputs"]["tasks"] for part in parts}) == 1
    assert main(["merge", *map(str, parts), "--out", str(tmp_path / "merged")]) == 0
    merged = tmp_path / "merged"
    pd.testing.assert_frame_equal(rows(merged), rows(whole), check_exact=True)
    for name in ("summary.csv", "summary_by_kind.csv"):
        tables = [pd.read_csv(f / name).drop(columns="latency_s_median") for f in (merged, whole)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (merged / "tasks.csv").read_bytes() == (whole / "tasks.csv").read_bytes()
    assert record(merged)["n_expected"] == record(whole)["n_expected"]


@pytest.mark.slow
def test_a_killed_run_goes_on(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "again")
    facts = record(whole) | {"status": "running"}
    (tmp_path / "again" / "run.json").write_text(json.dumps(facts))
    log = tmp_path / "again" / "samples.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:5]))
    run(tmp_path / "again", **GENERATED, strips=2)
    names = sorted(f.name for f in (tmp_path / "again" / "figures").iterdir())
    assert names == ["glasses.png", "overview.png", "skin.png"]
    pd.testing.assert_frame_equal(rows(tmp_path / "again"), rows(whole), check_exact=True)


def test_edits_made_elsewhere_and_a_photo_without_the_attribute(tmp_path):
    without = next(s for s in (ToyFaces(5, 64)[i] for i in range(5)) if CELEBAMASK.index("eye_g") not in s.labels)
    lines = [f"{without.id},glasses,remove,no glasses,", f"{without.id},hair,recolour,blue hair,blue"]
    lines += ["00003,hair,restyle,curly hair,curly"]
    for id_ in (without.id, "00003"):
        file = tmp_path / "edits" / "hair" / f"{id_}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 64, 3), named_colour("blue", "hair"), np.uint8)).save(file)
    (tmp_path / "edits" / "glasses").mkdir()
    made = run(
        tmp_path / "run",
        prompts={"file": str(written(tmp_path, *lines))},
        attributes=["hair", "glasses"],
        editor={"name": "precomputed", "root": str(tmp_path / "edits"), "resize": None},
    )
    found = rows(made).set_index(["sample_id", "attribute"])
    assert found.at[(without.id, "glasses"), "status"] == "empty_region"
    assert found.at[(without.id, "hair"), "toward_prompt"] == pytest.approx(1, abs=1e-3), "painted in the colour asked"
    assert found.at[("00003", "hair"), "prompt"] == "curly hair"
    assert pd.isna(found.at[("00003", "hair"), "toward_prompt"])
    assert pd.read_csv(made / "summary.csv")[["n_expected", "n_empty"]].to_numpy().tolist() == [[2, 0], [1, 1]]


def test_mistakes_end_the_run(tmp_path):
    file = written(tmp_path, GOOD, "99999,hair,keep,unchanged,")
    with pytest.raises(
        UserError, match=r"1 of 2 tasks are of photos that the data set does not have \(first '99999'\)"
    ):
        tasks.start(settings(prompts={"file": str(file)}, attributes=["hair"]), tmp_path / "run")
    with pytest.raises(UserError, match="are two task sets; set one of them to null"):
        settings(prompts={"generated": "tasks_v1", "file": "x"})
    with pytest.raises(UserError, match="cascade: its stages have the prompts"):
        settings(**GENERATED, cascade={"stages": [{"attribute": "hair", "prompt": "red hair"}]})


def test_the_preset_asks_for_every_attribute_and_for_no_text():
    found = config.typed(composed("evaluate", [*TOY, "prompts=tasks_v1"], REPOSITORY), config.EditingEvaluation)
    assert set(found.attributes) == set(ATTRIBUTES)
    assert (found.prompts.generated, found.prompts.seed, found.prompts.texts) == ("tasks_v1", 0, {})
    assert settings(prompts={"file": "x.csv"}).prompts.texts == {}, "the evaluation prompts have no say"
    assert config.scientific(found)["prompts"] == {"generated": "tasks_v1", "seed": 0}

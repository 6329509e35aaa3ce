"""What the report shows of photos: only what the run itself used."""

import base64
import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from semfacediff import config, tasks
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.commands.report.pictures import pictures
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.parsing import opening
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.report.reading import read_records
from semfacediff.report.sample_rows import ranking

PANELS = {"photo", "parse", "semantic", "generation", "blend", "edit", "difference"}


STAGES = (
    "{attribute: hair, prompt: purple hair}, {attribute: skin, prompt: green skin}, {attribute: hair, prompt: red hair}"
)


def made(folder, count, *more):
    words = f"data=toy data.split=all data.count={count} data.size=48 editor=recolor metrics=no_weights"
    words += " weights.download=false strips=0 runtime.device=cpu runtime.workers=0"
    settings = composed("evaluate", [*words.split(), *more], config.repository())
    assert tasks.start(config.typed(settings, config.EditingEvaluation), folder) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    words = "parser=ground_truth", "attributes=[hair]", "prompts.hair='purple hair'"
    return made(tmp_path_factory.mktemp("runs") / "toy", 4, *words)


class ByBrightness(nn.Module):
    """Sees another class in every shade of grey, and so another face after every edit."""

    def forward(self, x):
        return -(19 * x.mean(1, keepdim=True) - 0.5 - torch.arange(19.0)[None, :, None, None]).abs()


@pytest.fixture(scope="module", params=["true", "false"])
def cascade(request, tmp_path_factory, tiny_checkpoint):
    """Three stages, with masks from a parse of each photo, or all from the first."""
    card = ParserCard("by_brightness", "celebamask", 48, [0.0] * 3, [1.0] * 3, {}, {})
    stages = f"cascade={{stages: [{STAGES}], reparse: {request.param}}}"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(opening, "open_trained", lambda settings: (ByBrightness(), card, "d" * 64))
        folder = tmp_path_factory.mktemp("runs") / "cascade"
        yield made(folder, 2, f"parser.checkpoint={tiny_checkpoint}", "region.feather_sigma_px=32", stages)


def shown(folder):
    records, _ = read_records([folder])
    return pictures(records, ranking(records), None, None)


def test_every_edit_has_all_panels(run):
    found = shown(run)
    edited = [key for key, panels in found.of.items() if "edit" in panels]
    assert edited
    assert all(set(found.of[key]) == PANELS for key in edited)
    assert all(uri.startswith("data:image/webp;base64,") for uri in found.files.values())
    assert found.licence == "Drawn faces, no photos of people."


def test_an_edit_that_is_gone_is_said_to_be(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "toy")
    gone = next((copy / "edits" / "hair").iterdir())
    gone.unlink()
    found = shown(copy)
    assert found.notes[0, gone.stem, "hair"] == f"edits/hair/{gone.name} is missing"
    assert "edit" not in found.of[0, gone.stem, "hair"]


def test_other_photos_than_the_runs_are_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "toy")
    facts = json.loads((copy / "run.json").read_text())
    facts["identity"]["inputs"]["data"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"expected the photos that the run saw \(digest 000000000000\)"):
        shown(copy)


def test_photos_are_looked_for_where_the_record_and_the_environment_say(run, tmp_path, monkeypatch):
    copy = shutil.copytree(run, tmp_path / "toy")
    facts = json.loads((copy / "run.json").read_text())
    facts["identity"]["config"]["data"] = {"name": "folder", "split": "all"}
    facts["command"] = f"python evaluate.py data=folder data.root={tmp_path / 'named'}"
    (copy / "run.json").write_text(json.dumps(facts))
    monkeypatch.delenv("SEMFACEDIFF_DATA", raising=False)
    with pytest.raises(UserError, match="needs the photos; give --data DIR"):
        shown(copy)
    for place in ("named", "set"):
        (tmp_path / place).mkdir()
        cv2.imwrite(str(tmp_path / place / "a.png"), np.full((48, 48, 3), 9, np.uint8))
    monkeypatch.setenv("SEMFACEDIFF_DATA", str(tmp_path / "set"))
    with pytest.raises(UserError) as e:
        shown(copy)
    assert str(e.value).index(str(tmp_path / "set")) < str(e.value).index(str(tmp_path / "named"))


def test_masks_that_are_not_the_records_are_not_shown(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "toy")
    facts = json.loads((copy / "run.json").read_text())
    facts["identity"]["config"]["region"]["feather_sigma_px"] = 40.0
    (copy / "run.json").write_text(json.dumps(facts))
    found = shown(copy)
    assert not any({"semantic", "blend"} & set(panels) for panels in found.of.values())
    assert "the masks computed here differ from the record's, so they are not shown" in found.notes.values()


def read(uri):
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR).astype(int)


def test_a_stage_of_a_cascade_is_shown_with_the_photo_it_was_given(cascade):
    """And with the masks that it had, whether they are of its own parse or of the first."""
    found = shown(cascade)
    rows = pd.read_parquet(cascade / "samples.parquet").set_index(["sample_id", "stage"])
    edited = {key for key, panels in found.of.items() if "edit" in panels}
    assert {name for _, _, name in edited} >= {"1_hair", "2_skin"}
    for _, id_, name in edited:
        stage = int(name.split("_")[0])
        panels = {kind: found.files[file] for kind, file in found.of[0, id_, name].items()}
        assert set(panels) == PANELS
        earlier = [k for k in range(1, stage) if rows.at[(id_, k), "status"] == "ok"]
        if earlier:
            before = f"{earlier[-1]}_{rows.at[(id_, earlier[-1]), 'attribute']}"
            assert np.abs(read(panels["photo"]) - read(found.files[found.of[0, id_, before]["edit"]])).max() == 0
    assert set(found.notes.values()) <= {"", "no edit"}


def test_every_stage_that_was_measured_has_a_card_of_its_own(cascade):
    rows = pd.read_parquet(cascade / "samples.parquet")
    rows = rows[rows["status"] == "ok"]
    names = rows["stage"].astype(str) + "_" + rows["attribute"]
    assert {(0, *key) for key in zip(rows["sample_id"], names, strict=True)} == set(shown(cascade).of)


def test_a_stage_whose_edit_is_gone_is_said_to_have_none(cascade, tmp_path):
    copy = shutil.copytree(cascade, tmp_path / "cascade")
    shutil.rmtree(copy / "edits" / "1_hair")
    found = shown(copy)
    gone = [note for (_, _, name), note in found.notes.items() if name == "1_hair" and note != "no edit"]
    assert gone
    assert all(note.startswith("edits/1_hair/") and note.endswith(".png is missing") for note in gone)


def test_the_page_holds_a_cascade(cascade, tmp_path):
    text = report([cascade], tmp_path / "out", ReportOptions(with_photos=True)).read_text()
    assert "3_hair" in text
    assert text.count("data:image/webp;base64,") == len(shown(cascade).files)

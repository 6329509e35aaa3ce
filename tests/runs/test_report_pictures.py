"""What the report shows of photos: only what the run itself used."""

import json
import shutil

import pytest

from semfacediff import config, runs
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.report.reading import read_records
from semfacediff.report.sample_rows import ranking
from semfacediff.runs.report_pictures import pictures

PANELS = {"photo", "parse", "semantic", "generation", "blend", "edit", "difference"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "toy"
    words = "data=toy data.split=all data.count=4 data.size=48 parser=ground_truth editor=recolor attributes=[hair]"
    words += " metrics=no_weights weights.download=false strips=0 runtime.device=cpu runtime.workers=0"
    settings = composed("evaluate", [*words.split(), "prompts.hair='purple hair'"], config.repository())
    assert runs.start(config.typed(settings, config.EditingEvaluation), folder) == 0
    return folder


def shown(folder):
    records, _ = read_records([folder])
    return pictures(records, ranking(records), None, None)


def test_every_edit_has_all_panels(run):
    found = shown(run)
    edited = [key for key, panels in found.of.items() if "edit" in panels]
    assert edited
    assert all(set(found.of[key]) == PANELS for key in edited)
    assert all(uri.startswith("data:image/webp;base64,") for uri in found.files.values())
    assert found.licence == "Drawn faces: nobody's photos."


def test_an_edit_that_is_gone_is_said_to_be(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "toy")
    gone = next((copy / "edits" / "hair").iterdir())
    gone.unlink()
    found = shown(copy)
    assert found.notes[0, gone.stem, "hair"] == f"edits/hair/{gone.name} is not there"
    assert "edit" not in found.of[0, gone.stem, "hair"]


def test_other_photos_than_the_runs_are_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "toy")
    facts = json.loads((copy / "run.json").read_text())
    facts["identity"]["inputs"]["data"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"expected the photos that the run saw \(digest 000000000000\)"):
        shown(copy)


def test_masks_that_are_not_the_records_are_not_shown(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "toy")
    facts = json.loads((copy / "run.json").read_text())
    facts["identity"]["config"]["region"]["feather_sigma_px"] = 40.0
    (copy / "run.json").write_text(json.dumps(facts))
    found = shown(copy)
    assert not any({"semantic", "blend"} & set(panels) for panels in found.of.values())
    assert "the masks made here are not those of the record, so they are not shown" in found.notes.values()

"""The pictures of a synthesis run, and the report's page of it: a tiny random model on drawn faces of 32 px."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.commands.report.page import ReportOptions, report
from semfacediff.config import repository
from semfacediff.data.toy import ToyFaces
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK, palette
from semfacediff.records.showcase import INTERPOLATION, LIST, Item, read_showcase
from semfacediff.synthesis import load_synthesis
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.tasks.synthesis import showcase as synthesis_showcase
from semfacediff.tasks.synthesis.showcase import common_parts, edited_layout, planned
from semfacediff.types import FaceSample, to_uint8

SMALL = (
    "task=synthesis data=toy data.count=3 data.size=32 runtime.device=cpu runtime.workers=0 weights.download=false "
    "synthesis.steps=1 synthesis.diversity_samples=0 synthesis.latency_steps=[] synthesis.showcase=2 "
    "metrics.columns=[ssim,iou]"
).split()
LATENCY = "synthesis.latency_steps=[1,2]"
KINDS = "photo labels reconstruction noise swap_style swap_parts mix interpolation edited_labels edit".split()
FACES = [ToyFaces(3, 32)[i] for i in range(3)]
EVIL = "<img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def made(tiny_synthesis, tiny_checkpoint):
    """``made(folder, *overrides)``: the exit code of an evaluation; its figures, which take longest, only if asked."""

    def start(folder: Path, *overrides: str, figures: bool = False) -> int:
        places = f"synthesis.checkpoint={tiny_synthesis}", f"parser.checkpoint={tiny_checkpoint}"
        cfg = composed("evaluate", [*SMALL, *places, *overrides], repository())
        with pytest.MonkeyPatch.context() as m:
            if not figures:
                m.setattr(synthesis_showcase, "_draw", lambda *_: None)
            return tasks.start(config.typed(cfg, config.SynthesisEvaluation), folder)

    return start


@pytest.fixture(scope="module")
def run(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("showcase") / "faces"
    assert made(folder, LATENCY, figures=True) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "faces")


@pytest.fixture(scope="module")
def synthesizer(tiny_synthesis) -> Synthesizer:
    return Synthesizer(load_synthesis(tiny_synthesis)[0], SamplingOptions(steps=1))


def picture(folder: Path, item: Item) -> np.ndarray:
    return cv2.imread(str(folder / item.file))[..., ::-1].astype(int)


def alike(saved: np.ndarray, image: torch.Tensor) -> bool:
    """Up to the rounding of another batch."""
    return np.abs(saved - to_uint8(image)).max() <= 1


class TestPictures:
    """What lies in ``showcase/``."""

    def test_every_kind_is_listed_and_every_file_is_there(self, run):
        found = read_showcase(run)
        assert list(dict.fromkeys(item.kind for item in found.files)) == KINDS
        assert {cv2.imread(str(run / file)).shape for file in found.files.values()} == {(32, 32, 3)}
        assert {file.name for file in (run / "showcase").glob("*.png")} == {Path(f).name for f in found.files.values()}
        assert {i.ids[0] for i in found.files} == {"00000", "00001"}
        assert [i.weight for i in found.files if i.kind == INTERPOLATION] == [0, 0.25, 0.5, 0.75, 1]
        assert {file.name for file in (run / "figures").iterdir()} == {"showcase.png", "interpolation.png"}

    def test_what_was_scored_is_what_is_shown(self, run):
        for task, item in (
            ("reconstruction", Item("reconstruction", ("00001",))),
            ("noise", Item("noise", ("00001",), draw=0)),
        ):
            assert (run / item.file).read_bytes() == (run / "samples" / task / "00001.png").read_bytes()
        assert (
            picture(run, Item("noise", ("00001",), draw=1)) != picture(run, Item("noise", ("00001",), draw=0))
        ).any()

    def test_photo_and_label_map_are_those_of_the_data(self, run):
        assert np.array_equal(picture(run, Item("photo", ("00000",))), FACES[0].photo)
        assert np.array_equal(picture(run, Item("labels", ("00000",))), palette(CELEBAMASK)[FACES[0].labels])

    def test_pictures_are_what_the_tasks_make(self, run, synthesizer):
        found = {(item.kind, item.ids[0]): item for item in read_showcase(run).files}
        swap, parts, mix = (found[kind, "00000"] for kind in ("swap_style", "swap_parts", "mix"))
        assert swap.ids == parts.ids == mix.ids == ("00000", "00001")
        pair = FACES[:1], FACES[1:2]
        assert alike(picture(run, swap), synthesizer.swap_style(*pair).images[0])
        assert alike(picture(run, parts), synthesizer.swap_parts(*pair, parts.parts).images[0])
        assert alike(picture(run, mix), synthesizer.mix(*pair, "hair").images[0])
        changed, said = edited_layout(FACES[0], CELEBAMASK)
        assert found["edit", "00000"].change == said
        assert alike(picture(run, found["edit", "00000"]), synthesizer.edit(FACES[:1], [changed]).images[0])

    def test_the_interpolation_begins_at_the_reconstruction_and_ends_at_the_swap(self, run, synthesizer):
        strip = [item for item in read_showcase(run).files if item.kind == INTERPOLATION]
        first, second = (next(f for f in FACES if f.id == id_) for id_ in strip[0].ids)
        assert np.abs(picture(run, strip[0]) - picture(run, Item("reconstruction", (first.id,)))).max() <= 1
        assert alike(picture(run, strip[-1]), synthesizer.swap_parts([first], [second], strip[0].parts).images[0])

    def test_killed_within_it_continues_and_makes_nothing_twice(self, run, made, tmp_path, monkeypatch):
        original, calls = synthesis_showcase._made, []

        def stopping(s, batch, *rest):
            calls.append(batch[0].kind)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(s, batch, *rest)

        monkeypatch.setattr(synthesis_showcase, "_made", stopping)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path)
        assert calls == ["noise", "swap_style", "swap_parts"]
        lost = tmp_path / Item("swap_style", ("00001", "00000")).file
        lost.unlink()  # listed, but the kill came before it was written
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / "showcase").glob("*.png")}
        monkeypatch.undo()
        assert made(tmp_path) == 0
        assert all(file.stat().st_mtime_ns == time for file, time in before.items())
        assert read_showcase(tmp_path) == read_showcase(run)
        for item in read_showcase(run).files:
            assert np.abs(picture(tmp_path, item) - picture(run, item)).max() <= 1

    def test_how_many_are_shown_is_no_part_of_the_identity(self, run, made, capsys):
        assert made(run, LATENCY, "synthesis.showcase=0") == 0
        assert "| reconstruction |" in capsys.readouterr().out

    def test_what_cannot_be_made_is_said_and_costs_no_score(self, made, tmp_path):
        assert made(tmp_path, "synthesis.eta=0.5", "data.n=1", "synthesis.tasks=[noise]") == 0
        found = read_showcase(tmp_path)
        assert "edit" not in {item.kind for item in found.files}
        assert found.left_out[1:] == ["edit: inversion needs sampler=ddim eta=0, got sampler=ddim eta=0.5"]


def face(*classes: str, side: int = 40) -> FaceSample:
    """Bands of the classes from top to bottom, on background at both sides."""
    labels = np.zeros((side, side), np.uint8)
    for band, name in zip(np.array_split(np.arange(side), len(classes)), classes, strict=True):
        labels[band, side // 4 : -side // 4] = CELEBAMASK.index(name)
    return FaceSample("a", np.zeros((side, side, 3), np.uint8), labels)


class TestChoices:
    """What is chosen to be shown."""

    def test_hair_grows_over_the_background_and_no_part_of_the_face(self):
        before = face("hair", "skin", "u_lip", "cloth")
        after, said = edited_layout(before, CELEBAMASK)
        changed = after.labels != before.labels
        assert said == "hair grown"
        assert changed.any()
        assert set(after.labels[changed]) == {CELEBAMASK.index("hair")}
        assert set(before.labels[changed]) == {0}

    def test_glasses_are_removed_first(self):
        after, said = edited_layout(face("hair", "skin", "eye_g", "skin"), CELEBAMASK)
        assert said == "glasses removed"
        assert CELEBAMASK.index("eye_g") not in after.labels

    def test_a_face_without_either_has_no_edit(self):
        assert edited_layout(face("hat", "skin"), CELEBAMASK) is None
        _, layouts, left_out = planned([face("hat", "skin")], CELEBAMASK)
        assert not layouts
        assert "no edit of a: neither glasses to remove nor hair to grow" in left_out

    def test_one_face_has_nobody_to_swap_with(self):
        plan, _, left_out = planned([face("hair", "skin")], CELEBAMASK)
        assert {item.kind for item in plan} == set(KINDS) - {"swap_style", "swap_parts", "mix", "interpolation"}
        assert left_out == ["no swaps and no interpolation: they take two faces"]

    def test_parts_are_those_that_both_have(self):
        asked = ("hair", "lips", "skin")
        assert common_parts(face("hair", "skin", "u_lip"), face("skin", "l_lip", "hat"), asked, CELEBAMASK) == (
            "lips",
            "skin",
        )
        bald = [face("hair", "nose"), FaceSample("b", np.zeros((40, 40, 3), np.uint8), face("hat", "skin").labels)]
        plan, _, left_out = planned(bald, CELEBAMASK)
        assert not {"swap_parts", "mix", "interpolation"} & {item.kind for item in plan}
        assert "no swap_parts of a and b: no hair, lips, skin in both" in left_out


def html(folders, out: Path, **wish) -> str:
    return report(list(folders), out, ReportOptions(**wish)).read_text()


@pytest.fixture(scope="module")
def shown(run, tmp_path_factory) -> str:
    return html([run], tmp_path_factory.mktemp("shown"), with_photos=True)


class TestPage:
    """``semfacediff report`` of such a run."""

    def test_without_photos_a_sentence_says_how(self, run, tmp_path):
        text = html([run], tmp_path)
        n = len(read_showcase(run).files)
        assert f"{n} pictures of 2 faces are in showcase/ of the run; --with-photos shows them here." in text
        assert "data:image" not in text
        assert "<img" not in text

    def test_pictures_have_words_and_stand_in_groups(self, shown):
        section = shown[shown.index('<section id="generated"') : shown.index('<section id="speed"')]
        assert re.findall("<h4>(.*?)</h4>", section) == [
            "Reconstructions and draws",
            "Swapped styles",
            "Interpolation",
            "Edited label maps",
        ]
        images = re.findall(r'<img src="(data:image/webp;base64,[^"]+)" alt="([^"]+)"', section)
        assert len(images) == section.count("<img") == 2 * 5 + 2 * 5 + 7 + 2 * 4
        assert "00000 in the style of 00001" in dict(map(reversed, images))
        assert "Drawn faces, no photos of people." in section

    def test_scores_speed_and_samples_are_those_of_the_record(self, run, shown):
        summary = pd.read_csv(run / "summary.csv").set_index("task")
        assert f"<td>{summary.at['reconstruction', 'ssim_mean']:.3f}</td>" in shown
        assert "MaskGAN" not in shown  # these faces are drawn
        assert '<section id="speed"' in shown
        samples = json.loads(re.search(r'id="data">(.*?)</script>', shown, re.S)[1])
        assert samples["group"] == "task"
        texts = samples["texts"]
        seen = {(texts[r[1]], texts[r[2]]): set(r[7] or ()) for r in samples["rows"]}
        assert len(seen) == 12
        assert seen["00002", "reconstruction"] == {"photo", "edit", "labels"}
        assert seen["00002", "photo"] == set()

    def test_published_rows_stand_below_photos(self, copy, tmp_path):
        facts = json.loads((copy / "run.json").read_text())
        facts["identity"]["config"]["data"]["name"] = "shards"
        (copy / "run.json").write_text(json.dumps(facts))
        text = re.sub(r"<[^>]+>|\s+", " ", html([copy], tmp_path / "out"))
        assert re.search(
            r"reconstruction +SCA-DM, published +CelebAMask-HQ, another judge; [^.]* 0\.54 +81\.78 +94\.67", text
        )
        assert "not comparable" in text  # the record was changed by hand

    def test_runs_of_other_steps_have_curves(self, run, made, tmp_path):
        assert made(tmp_path / "more", "synthesis.steps=2", "synthesis.showcase=0", LATENCY) == 0
        text = html([run, tmp_path / "more"], tmp_path / "out")
        assert "SSIM ↑ against steps; reconstruction, steps 1" in text[text.index('id="ablations"') :]
        assert not (tmp_path / "more" / "showcase").exists()

    def test_an_older_record_says_that_it_shows_nothing(self, copy, tmp_path):
        shutil.rmtree(copy / "showcase")
        for wish in ({}, {"with_photos": True}):
            assert "This record contains no showcase: it is older" in html([copy], tmp_path / "out", **wish)

    def test_missing_and_damaged_files_are_named(self, copy, tmp_path):
        swap, noise = Item("swap_style", ("00000", "00001")).file, Item("noise", ("00000",), draw=0).file
        (copy / swap).unlink()
        (copy / noise).write_bytes(b"no picture")
        (copy / "samples" / "reconstruction" / "00002.png").unlink()
        text = html([copy], tmp_path / "out", with_photos=True)
        assert f"Missing or damaged, so not shown: {noise}, {swap}." in text
        assert 'aria-label="00000 in the style of 00001: missing"' in text
        assert "samples/reconstruction/00002.png is missing" in text

    @pytest.mark.parametrize("content", ["{", "[]", '{"pictures": 3}'])
    def test_a_damaged_list_is_named(self, copy, tmp_path, content):
        (copy / LIST).write_text(content)
        assert f"{LIST} cannot be read" in html([copy], tmp_path / "out")

    def test_strange_entries_are_counted_and_hostile_texts_stay_texts(self, copy, tmp_path):
        (tmp_path / "secret.png").write_bytes((copy / "showcase" / "00000_photo.png").read_bytes())
        listed = json.loads((copy / LIST).read_text())
        evil = {"kind": EVIL, "ids": [EVIL], "parts": [EVIL], "weight": None, "draw": None, "change": EVIL}
        listed["pictures"] += [evil | {"file": "../secret.png", "note": EVIL}, {"kind": "photo"}, 3, None]
        listed["pictures"].append(evil | {"kind": "edit", "file": "showcase/00000_photo.png", "note": EVIL})
        (copy / LIST).write_text(json.dumps(listed | {"left_out": [EVIL]}))
        text = html([copy], tmp_path / "out", with_photos=True)
        assert "3 entries of showcase/showcase.json cannot be read." in text
        assert "Missing or damaged, so not shown: ../secret.png." in text
        assert "<img src=x" not in text
        assert EVIL in unescape(text)

    def test_half_a_run_is_a_page(self, copy, tmp_path):
        facts = json.loads((copy / "run.json").read_text())
        unfinished = {k: v for k, v in facts.items() if k not in ("n", "n_failed", "latency", "set_notes", "files")}
        (copy / "run.json").write_text(json.dumps(unfinished | {"status": "running"}))
        for name in ("samples.parquet", "summary.csv", LIST):
            (copy / name).unlink()
        text = html([copy], tmp_path / "out", with_photos=True)
        assert "Unfinished: the status is running" in text
        assert "the rows are those of samples.jsonl so far: 12 of 12" in text
        assert "This record contains no showcase" in text

    def test_without_the_data_faces_are_shown_alone(self, copy, tmp_path):
        facts = json.loads((copy / "run.json").read_text())
        facts["identity"]["inputs"]["data"] = "0" * 64
        (copy / "run.json").write_text(json.dumps(facts))
        text = html([copy], tmp_path / "out", with_photos=True)
        assert "no photos and no label maps: " in text
        samples = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
        assert {tuple(r[7]) for r in samples["rows"] if r[7]} == {("edit",)}

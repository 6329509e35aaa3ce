"""The official layout prepared once: the same label maps, whatever interrupts it, and a report of everything odd."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from semfacediff import cli, config
from semfacediff.commands.prepare import files as prepare_files
from semfacediff.commands.prepare import folder as prepare_runs
from semfacediff.commands.prepare.files import Settings
from semfacediff.commands.prepare.folder import prepare
from semfacediff.data.opening import open_data
from semfacediff.data.toy_official import GROUPS, write_official, write_part
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK

NUMBERS = [*range(20), 1999, 2000]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepare") / "official"
    write_official(root, NUMBERS)
    return root


@pytest.fixture
def root(official, tmp_path):
    return shutil.copytree(official, tmp_path / "official")


def contents(out):
    """Relative name -> bytes of what the command makes; the log holds the same rows in another order after a resume."""
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.suffix != ".jsonl"]
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def plain(root, *, order="official"):
    settings = config.CelebAMaskHQData(
        name="celebamask_hq",
        root=str(root),
        split="all",
        subset=None,
        n=None,
        paint_order=order,
        on_error="error",
        allow_mask_resize=False,
    )
    return open_data(settings).faces


def prepared(out, layout, split="all"):
    common = {"root": str(out), "label_space": "celebamask", "split": split, "subset": None, "n": None}
    common["on_error"] = "error"
    rule = config.SplitRuleConfig(by="file")
    if layout == "folder":
        settings = config.FolderData(
            name="folder", images="images", masks="masks", split_rule=rule, allow_mask_resize=True, **common
        )
    else:
        settings = config.ShardsData(name="shards", shards="*.tar", split_rule=rule, allow_mask_resize=True, **common)
    return open_data(settings).faces


@pytest.mark.parametrize("layout", ["folder", "shards"])
@pytest.mark.parametrize("order", ["official", "segface"])
def test_what_comes_out_is_the_data_set_itself(root, tmp_path, layout, order):
    write_part(root, 0, "cloth", np.ones((32, 32), bool))
    out = tmp_path / "out"
    assert prepare(root, out, Settings(layout, order=order, shard_size=4), workers=1) == 0
    wanted, found = plain(root, order=order), prepared(out, layout)
    assert found.ids == wanted.ids
    for a, b in zip((wanted[i] for i in range(len(wanted))), (found[i] for i in range(len(found))), strict=True):
        assert np.array_equal(a.photo, b.photo)
        assert np.array_equal(a.labels, b.labels)
        assert a.attributes == b.attributes
    assert found[found.ids.index("3")].attributes["Eyeglasses"] is True
    assert found[found.ids.index("2000")].attributes == {}


def test_annotations_that_are_gone_leave_no_file(root, tmp_path):
    prepare(root, tmp_path / "out", Settings(), workers=1)
    assert (tmp_path / "out" / "attributes.csv").read_text().splitlines()[0] == "id,Eyeglasses,Smiling,yaw,pitch,roll"
    for name in ("CelebAMask-HQ-attribute-anno.txt", "CelebAMask-HQ-pose-anno.txt"):
        (root / name).unlink()
    prepare(root, tmp_path / "out", Settings(), workers=1)
    assert not (tmp_path / "out" / "attributes.csv").exists()


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_the_official_split_survives(official, tmp_path, layout):
    out = tmp_path / "out"
    prepare(official, out, Settings(layout, shard_size=5), workers=1)
    for k, split in enumerate(("train", "val", "test")):
        wanted = sorted(str(n) for j, n in enumerate(NUMBERS) if GROUPS[j % 10] == k)
        assert prepared(out, layout, split).ids == wanted


def test_photos_are_copied_byte_by_byte(official, tmp_path):
    prepare(official, tmp_path / "out", Settings(), workers=1)
    assert (tmp_path / "out/images/7.jpg").read_bytes() == (official / "CelebA-HQ-img/7.jpg").read_bytes()
    assert Image.open(tmp_path / "out/masks/7.png").mode == "L"


def test_a_tar_holds_one_split(official, tmp_path):
    prepare(official, tmp_path / "out", Settings("shards", shard_size=5), workers=1)
    splits = dict(line.split() for line in (tmp_path / "out/split.txt").read_text().splitlines())
    sizes = []
    for file in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(file) as tar:
            names = tar.getnames()
        assert len({splits[name.split(".")[0]] for name in names}) == 1
        sizes.append(len(names) // 2)
    assert sorted(sizes, reverse=True) == [5, 5, 5, 3, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_processes_make_the_same(official, tmp_path, layout, monkeypatch):
    prepare(official, tmp_path / "one", Settings(layout, shard_size=5), workers=1)
    monkeypatch.setattr(prepare_files, "CHUNK", 3)
    prepare(official, tmp_path / "two", Settings(layout, shard_size=5), workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


class TestResume:
    @pytest.mark.parametrize("layout", ["folder", "shards"])
    def test_an_interruption_costs_nothing(self, official, tmp_path, layout, monkeypatch):
        settings = Settings(layout, shard_size=4)
        prepare(official, tmp_path / "whole", settings, workers=1)
        seen, real = [], prepare_files.prepare_one

        def dying(entry, settings):
            seen.append(entry.id)
            if len(seen) == 11:
                raise KeyboardInterrupt
            return real(entry, settings)

        monkeypatch.setattr(prepare_files, "CHUNK", 1)
        monkeypatch.setattr(prepare_files, "prepare_one", dying)
        with pytest.raises(KeyboardInterrupt):
            prepare(official, tmp_path / "out", settings, workers=1)
        assert prepare(official, tmp_path / "out", settings, workers=1) == 0
        again = len(seen) - len(NUMBERS)
        assert again == (1 if layout == "folder" else 3)  # the photo under way; of tars, those of the unfinished one
        (tmp_path / "out" / "celebamask_hq-00002.tar.new").unlink(missing_ok=True)
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    def test_a_line_torn_by_the_kill_is_dropped(self, official, tmp_path):
        prepare(official, tmp_path / "out", Settings(), workers=1)
        log = tmp_path / "out" / "prepare.jsonl"
        before = contents(tmp_path / "out")
        log.write_bytes(log.read_bytes()[:-9])
        assert prepare(official, tmp_path / "out", Settings(), workers=1) == 0
        assert contents(tmp_path / "out") == before
        assert all(json.loads(line) for line in log.read_text().splitlines())

    def test_what_was_deleted_is_made_again(self, official, tmp_path):
        prepare(official, tmp_path / "out", Settings(), workers=1)
        before = contents(tmp_path / "out")
        (tmp_path / "out/masks/3.png").unlink()
        prepare(official, tmp_path / "out", Settings(), workers=1)
        assert contents(tmp_path / "out") == before

    def test_nothing_is_done_twice(self, official, tmp_path, monkeypatch, capsys):
        prepare(official, tmp_path / "out", Settings(), workers=1)
        first = capsys.readouterr().out
        monkeypatch.setattr(prepare_files, "prepare_one", None)
        assert prepare(official, tmp_path / "out", Settings(), workers=1) == 0
        assert capsys.readouterr().out == first

    @pytest.mark.slow
    def test_killed_without_warning(self, official, tmp_path):
        """``kill -9`` of the whole command, its worker processes left to themselves: they end, the rest is made."""
        out = tmp_path / "out"
        words = [sys.executable, "-m", "semfacediff.cli", "prepare", str(official), "--out", str(out), "--workers", "2"]
        run = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not list(out.glob("masks/*.png")) and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.005)
        workers = children(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert prepare(official, out, Settings(), workers=1) == 0
        prepare(official, tmp_path / "whole", Settings(), workers=1)
        for stray in out.rglob("*.new"):
            stray.unlink()
        assert contents(out) == contents(tmp_path / "whole")
        while any(alive(p) for p in workers) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(alive(p) for p in workers)

    def test_a_kill_between_a_tar_and_its_rows(self, root, tmp_path, monkeypatch):
        """The new tar lacks a photo, the log knows only the old tar of its name, and the photo comes back."""
        settings, photo, real = Settings("shards", shard_size=3), root / "CelebA-HQ-img" / "9.jpg", prepare_runs._append

        def killed(log, out, rows):
            rows = list(rows)
            if any(row["error"] is None for row in rows):
                raise KeyboardInterrupt
            real(log, out, rows)

        prepare(root, tmp_path / "out", settings, workers=1)
        before = contents(tmp_path / "out")
        photo.rename(tmp_path / "9.jpg")
        with monkeypatch.context() as patch:
            patch.setattr(prepare_runs, "_append", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare(root, tmp_path / "out", settings, workers=1)
        (tmp_path / "9.jpg").rename(photo)
        prepare(root, tmp_path / "out", settings, workers=1)
        assert contents(tmp_path / "out") == before

    def test_a_damaged_line_cuts_the_log(self, official, tmp_path):
        out = tmp_path / "out"
        prepare(official, out, Settings(), workers=1)
        before, log = contents(out), out / "prepare.jsonl"
        for damaged in (b"\xff{{\n", b'{"id": "7"}\n', b"[]\n"):
            lines = log.read_bytes().splitlines(keepends=True)
            log.write_bytes(b"".join([*lines[:4], damaged, *lines[5:]]))
            assert prepare(official, out, Settings(), workers=1) == 0
            assert contents(out) == before
            assert len(log.read_text().splitlines()) == len(NUMBERS)

    def test_a_kill_while_the_settings_are_written(self, official, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".prepare.json.new").write_text("{")
        assert prepare(official, tmp_path / "out", Settings(), workers=1) == 0

    def test_a_log_that_cannot_be_written(self, official, tmp_path):
        prepare(official, tmp_path / "out", Settings(), workers=1)
        (tmp_path / "out" / "prepare.jsonl").unlink()
        (tmp_path / "out" / "prepare.jsonl").mkdir()
        with pytest.raises(UserError, match=r"^cannot write .*prepare.jsonl \(Is a directory\)"):
            prepare(official, tmp_path / "out", Settings(), workers=1)

    def test_other_settings_are_refused(self, official, tmp_path):
        prepare(official, tmp_path / "out", Settings(), workers=1)
        with pytest.raises(UserError, match=r"begun with other settings \(order is 'official' there, 'segface' here\)"):
            prepare(official, tmp_path / "out", Settings(order="segface"))

    def test_a_folder_with_other_things_in_it_is_refused(self, official, tmp_path):
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(UserError, match=r"^--out: expected an empty folder, or one that this command began, got"):
            prepare(official, tmp_path, Settings())


@pytest.mark.parametrize("layout", ["folder", "shards"])
class TestChangedSource:
    """Whatever changes between two sittings, the outcome is that of one sitting over what is there now."""

    def again(self, root, tmp_path, layout):
        """Prepare again into ``out``; what comes out is as if ``out`` had been empty."""
        settings = Settings(layout, shard_size=3)
        assert prepare(root, tmp_path / "out", settings, workers=1) == 0
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        prepare(root, tmp_path / "new", settings, workers=1)
        assert contents(tmp_path / "out") == contents(tmp_path / "new")
        assert prepared(tmp_path / "out", layout).ids == sorted(p.stem for p in root.glob("CelebA-HQ-img/*.jpg"))

    def test_a_late_photo(self, root, tmp_path, layout):
        late = root / "CelebA-HQ-img" / "11.jpg"
        late.rename(tmp_path / "11.jpg")
        for part in root.glob("CelebAMask-HQ-mask-anno/0/00011_*.png"):
            part.rename(tmp_path / part.name)
        self.again(root, tmp_path, layout)
        (tmp_path / "11.jpg").rename(late)
        for part in tmp_path.glob("00011_*.png"):
            part.rename(root / "CelebAMask-HQ-mask-anno" / "0" / part.name)
        self.again(root, tmp_path, layout)

    def test_removed_photos(self, root, tmp_path, layout):
        self.again(root, tmp_path, layout)
        for number in (0, 3, 11):
            (root / "CelebA-HQ-img" / f"{number}.jpg").unlink()
            self.again(root, tmp_path, layout)

    def test_a_mended_part_mask(self, root, tmp_path, layout):
        self.again(root, tmp_path, layout)
        write_part(root, 5, "cloth", np.ones((32, 32), bool))
        self.again(root, tmp_path, layout)

    def test_another_root(self, root, tmp_path, layout):
        self.again(root, tmp_path, layout)
        write_official(tmp_path / "other", [*range(5, 12)])
        self.again(tmp_path / "other", tmp_path, layout)

    def test_a_photo_that_went_bad_leaves_no_old_files(self, root, tmp_path, layout):
        self.again(root, tmp_path, layout)
        (root / "CelebA-HQ-img" / "4.jpg").write_bytes(b"")
        assert prepare(root, tmp_path / "out", Settings(layout, shard_size=3), workers=1) == 1
        assert "4" not in prepared(tmp_path / "out", layout).ids

    def test_only_what_changed_is_made_again(self, root, tmp_path, layout, monkeypatch):
        self.again(root, tmp_path, layout)
        write_part(root, 5, "cloth", np.ones((32, 32), bool))
        seen, real = [], prepare_files.prepare_one
        monkeypatch.setattr(prepare_files, "prepare_one", lambda e, s: seen.append(e.id) or real(e, s))
        prepare(root, tmp_path / "out", Settings(layout, shard_size=3), workers=1)
        assert "5" in seen
        assert len(seen) == (1 if layout == "folder" else 3)

    def test_files_of_other_names_are_left_alone(self, root, tmp_path, layout):
        self.again(root, tmp_path, layout)
        notes = [tmp_path / "out" / name for name in ("notes.txt", "celebamask_hq-mine.tgz")]
        for note in notes:
            note.write_text("x")
        (root / "CelebA-HQ-img" / "4.jpg").unlink()
        prepare(root, tmp_path / "out", Settings(layout, shard_size=3), workers=1)
        assert all(note.exists() for note in notes)


def children(pid):
    """Process ids started by ``pid``, where the system tells."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().split()[2] != "Z"
    except OSError:
        return False


class TestReport:
    @pytest.fixture
    def odd(self, root):
        """Six things wrong, three photos of no use."""
        parts = root / "CelebAMask-HQ-mask-anno" / "0"
        (root / "CelebA-HQ-img" / "2.jpg").write_bytes((root / "CelebA-HQ-img" / "2.jpg").read_bytes()[:-50])
        write_part(root, 3, "hat", np.ones((8, 8), bool))
        for file in parts.glob("00004_*.png"):
            file.unlink()
        write_part(root, 5, "hat", Image.fromarray(np.eye(32, dtype=np.uint8)))
        write_part(root, 6, "necktie", np.ones((32, 32), bool))
        write_part(root, 7, "hat", np.zeros((32, 32), bool))
        return root

    def test_everything_odd_is_named_and_the_rest_is_made(self, odd, tmp_path, capsys):
        out = tmp_path / "out"
        assert prepare(odd, out, Settings(), workers=1) == 1
        report = json.loads((out / "report.json").read_text())
        assert report["photos"] == len(NUMBERS)
        assert report["prepared"] == sum(report["splits"].values()) == len(NUMBERS) - 3
        assert (
            report["left_out"]["2"]
            == "CelebA-HQ-img/2.jpg: the image is truncated or corrupt (no end mark); copy it again"
        )
        assert "00003_hat.png: the part mask is 8x8 px, the others of its photo 32x32" in report["left_out"]["3"]
        assert report["left_out"]["4"] == "CelebA-HQ-img/4.jpg: a photo without a part mask"
        assert report["odd_files"] == [
            "CelebAMask-HQ-mask-anno/0/00006_necktie.png: unknown part 'necktie'; passed over",
            "CelebAMask-HQ-mask-anno/0/00005_hat.png: 32 grey pixels (they count as the part)",
            "CelebAMask-HQ-mask-anno/0/00007_hat.png: the mask is empty",
        ]
        assert report["without_annotation"] == ["2000"]
        assert set(report["photos_without_part"]) == set(CELEBAMASK.classes[1:])
        assert not (out / "images/2.jpg").exists()
        shown = capsys.readouterr()
        assert shown.out.startswith((out / "report.txt").read_text())
        assert "left out: 3" in shown.out
        assert shown.err.splitlines()[-1].startswith("error: 3 of 22 photos were left out; fix them and repeat")

    @pytest.mark.parametrize("layout", ["folder", "shards"])
    def test_mended_files_are_taken_up(self, odd, official, tmp_path, layout):
        settings = Settings(layout, shard_size=4)
        assert prepare(odd, tmp_path / "out", settings, workers=1) == 1
        for name in ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"):
            shutil.rmtree(odd / name)
            shutil.copytree(official / name, odd / name)
        assert prepare(odd, tmp_path / "out", settings, workers=1) == 0
        assert "2" in prepared(tmp_path / "out", layout).ids

    def test_a_photo_without_a_split_is_told(self, root, tmp_path):
        mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
        mapping.write_text("\n".join(mapping.read_text().splitlines()[:-1]))
        assert prepare(root, tmp_path / "out", Settings(), workers=1) == 0
        report = json.loads((tmp_path / "out/report.json").read_text())
        assert list(report["without_split"]) == ["2000"]
        assert "2000 " not in (tmp_path / "out/split.txt").read_text()

    def test_photos_that_are_listed_and_not_there(self, root, tmp_path, capsys):
        for number in (3, 14):  # one of val, one of train
            (root / "CelebA-HQ-img" / f"{number}.jpg").unlink()
        prepare(root, tmp_path / "all", Settings(), workers=1)
        report = json.loads((tmp_path / "all/report.json").read_text())
        assert report["photos_missing"] == ["CelebA-HQ-img/3.jpg", "CelebA-HQ-img/14.jpg"]
        assert "photos missing: 2\n  CelebA-HQ-img/3.jpg\n" in capsys.readouterr().out
        prepare(root, tmp_path / "val", Settings(split="val"), workers=1)
        report = json.loads((tmp_path / "val/report.json").read_text())
        assert report["photos_missing"] == ["CelebA-HQ-img/3.jpg"]

    def test_a_part_of_another_size_on_request(self, odd, tmp_path):
        prepare(odd, tmp_path / "out", Settings(allow_mask_resize=True), workers=1)
        assert "3" not in json.loads((tmp_path / "out/report.json").read_text())["left_out"]


class TestCommand:
    def test_it_prepares_and_says_how_to_use_it(self, official, tmp_path, capsys):
        words = f"prepare {official} --out {tmp_path / 'out'} --split val --paint-order segface --workers 1"
        assert cli.main(words.split()) == 0
        shown = capsys.readouterr()
        assert "prepared 2 of 2 photos (0 train, 2 val, 0 test); paint order segface" in shown.out
        assert f"use it: data=folder data.root={tmp_path / 'out'} data.split_rule.by=file" in shown.out

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("prepare {tmp} --out {tmp}/out", "error: photos: expected the folder "),
            ("prepare {root} --out {root}", "error: --out: expected an empty folder, or one that this command began"),
        ],
    )
    def test_mistakes_are_one_sentence(self, root, tmp_path, words, message, capsys):
        assert cli.main(words.format(root=root, tmp=tmp_path).split()) == 2
        error = capsys.readouterr().err
        assert error.startswith(message)
        assert len(error.splitlines()) == 1

    def test_a_worker_count_that_is_none(self, official, tmp_path, capsys):
        with pytest.raises(SystemExit) as caught:
            cli.main(f"prepare {official} --out {tmp_path} --workers 0".split())
        assert caught.value.code == 2
        assert "expected a whole number of at least 1, got '0'" in capsys.readouterr().err

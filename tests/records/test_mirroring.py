"""Scores reach W&B while a run goes, and a record is sent later, once."""

import json
import math
import subprocess
import sys
import time

import pytest

from semfacediff import cli
from semfacediff.records import tracking
from semfacediff.records.folder import DONE, INCOMPLETE, RunFolder
from semfacediff.records.running_means import POINTS, RunningMeans
from semfacediff.records.samples import SampleLog
from semfacediff.records.writing import write_bytes, write_text

from .wandb_stub import RECORDER, options


def row(i, attribute, **values):
    return {"sample_id": f"{i:03d}", "attribute": attribute, "status": "ok", "seed": 7, **values}


def opened(path, n=4, tracking_options="{name: none}"):
    header = {"task": "editing", "config_digest": "c", "n_expected": n, "not_comparable": []}
    text = f"seed: 1\nname: toy\ntracking: {tracking_options}\n"
    return RunFolder(path, {"seed": 1}, header, text)


def finished(path, rows=4, status=DONE):
    with opened(path, rows) as record:
        lines = [json.dumps(row(i, "hair", ssim=i / 10)) + "\n" for i in range(rows)]
        write_text(path / "samples.jsonl", "".join(lines))
        write_text(path / "summary.csv", "attribute,n,ssim_mean\nhair,4,0.15\n")
        record.close(status)
    return path


class TestRunningMeans:
    def test_means_of_the_rows_so_far_by_attribute(self, tmp_path):
        file = tmp_path / "samples.jsonl"
        means, log = RunningMeans(file, 4), SampleLog(file, ("sample_id", "attribute"))
        assert list(means.points()) == []
        log.append(row(0, "hair", ssim=0.5, lpips=None, psnr_outside=math.inf))
        log.append(row(0, "lips", ssim=1.0))
        assert list(means.points()) == [
            {"running/rows": 1, "running/failed": 0, "running/hair/ssim": 0.5},
            {"running/rows": 2, "running/failed": 0, "running/hair/ssim": 0.5, "running/lips/ssim": 1.0},
        ]
        log.append(row(1, "hair", ssim=0.7) | {"status": "error"})
        (values,) = means.points()
        names = ("running/rows", "running/failed", "running/hair/ssim")
        assert [values[name] for name in names] == [3, 1, pytest.approx(0.6)]
        assert list(means.points(at_the_end=True)) == []

    def test_a_parsing_run_has_no_attributes(self, tmp_path):
        write_text(tmp_path / "s", '{"sample_id": "a", "status": "ok", "miou": 0.5, "confusion": [[0, 0, 9]]}\n')
        (values,) = RunningMeans(tmp_path / "s", 1).points()
        assert values == {"running/rows": 1, "running/failed": 0, "running/miou": 0.5}

    def test_long_runs_have_a_bounded_number_of_points_and_the_last_row(self, tmp_path):
        n = 10 * POINTS + 3
        write_text(tmp_path / "s", "".join(json.dumps(row(i, "hair", ssim=i)) + "\n" for i in range(n)))
        means = RunningMeans(tmp_path / "s", n)
        points = [*means.points(), *means.points(at_the_end=True)]
        assert len(points) == POINTS + 1
        assert points[-1]["running/rows"] == n
        assert points[-1]["running/hair/ssim"] == pytest.approx((n - 1) / 2)

    def test_half_a_line_is_left_until_it_is_whole(self, tmp_path):
        line = json.dumps(row(0, "hair", ssim=0.5))
        (tmp_path / "s").write_text(line[:20])
        means = RunningMeans(tmp_path / "s", 1)
        assert list(means.points()) == []
        (tmp_path / "s").open("a").write(line[20:] + "\n")
        assert [p["running/rows"] for p in means.points()] == [1]

    def test_a_file_that_was_put_in_order_counts_each_row_once(self, tmp_path):
        lines = [json.dumps(row(i, "hair", ssim=i)).encode() + b"\n" for i in range(5)]
        write_bytes(tmp_path / "s", b"".join(lines[:3]))
        means = RunningMeans(tmp_path / "s", 5)
        assert [p["running/rows"] for p in means.points()] == [1, 2, 3]
        write_bytes(tmp_path / "s", b"".join(reversed(lines)))
        (values,) = means.points()
        assert (values["running/rows"], values["running/hair/ssim"]) == (5, 2.0)
        assert list(means.points(at_the_end=True)) == []

    def test_failed_rows_that_are_tried_again_do_not_go_back_in_time(self, tmp_path):
        lines = [json.dumps(row(i, "hair", ssim=i)).encode() + b"\n" for i in range(3)]
        write_bytes(tmp_path / "s", b"".join(lines))
        means = RunningMeans(tmp_path / "s", 3)
        assert len(list(means.points())) == 3
        write_bytes(tmp_path / "s", b"".join(lines[:2]))
        assert list(means.points()) == []
        with open(tmp_path / "s", "ab") as f:
            f.write(lines[2] * 2)
        assert [p["running/rows"] for p in means.points()] == [4]


def test_scores_arrive_while_the_run_goes_and_it_need_not_say_so(tmp_path, stub, monkeypatch):
    calls = stub()
    source = "from semfacediff.records import mirroring; mirroring.LOOK_S = 0.05; mirroring._main"
    run = tmp_path / "run"
    with opened(run) as record:
        log = SampleLog(run / "samples.jsonl", ("sample_id", "attribute"))
        words = [sys.executable, "-c", f"{source}({str(run)!r}, {json.dumps(json.dumps(options()))})"]
        mirror = subprocess.Popen(words, stdin=subprocess.PIPE)
        for i in range(2):
            log.append(row(i, "hair", ssim=0.5))
            deadline = time.monotonic() + 60
            while [c["values"]["running/rows"] for c in calls("log")] != list(range(1, i + 2)):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        record.close(DONE)
        mirror.stdin.close()
        assert mirror.wait(60) == 0
    assert [c["call"] for c in calls("init", "log", "finish")] == ["init", "log", "log", "log", "finish"]
    assert list(calls("log")[-1]["values"]) == ["samples"]


class TestEnd:
    ROWS = (
        row(0, "hair", ssim=0.5, lpips=None, width=64, psnr_outside=math.inf, confusion=[[0, 0, 9]], prompt="red"),
        row(1, "hair", ssim=1.0, new_metric=2, unchanged=True),
    )

    @pytest.fixture
    def sent(self, tmp_path, mirrored):
        def send(**changed):
            with opened(tmp_path / "run", 2) as record:
                write_text(record.path / "samples.jsonl", "".join(json.dumps(r) + "\n" for r in self.ROWS))
                for name in ("edits/hair/000.png", "figures/hair.png", "checkpoints/best/model.safetensors"):
                    write_text(record.path / name, "a photo")
                record.close(DONE)
            calls, _ = mirrored(tmp_path / "run", **changed)
            return calls

        return send

    def test_a_table_of_samples_has_every_score_and_no_picture(self, sent):
        calls = sent()
        running, samples = [c["values"] for c in calls("log")][-2:]
        assert running == {
            "running/rows": 2,
            "running/failed": 0,
            "running/hair/ssim": 0.75,
            "running/hair/new_metric": 2,
        }
        assert samples == {
            "samples": {
                "columns": ["sample_id", "attribute", "status", "ssim", "new_metric"],
                "data": [["000", "hair", "ok", 0.5, None], ["001", "hair", "ok", 1.0, 2]],
            }
        }
        assert "png" not in str(calls())
        assert calls("artifact") == []

    def test_pictures_if_asked(self, tmp_path, sent):
        (table,) = [c["values"]["samples"] for c in sent(images=True)("log") if "samples" in c["values"]]
        assert table["columns"][-1] == "picture"
        edit = {"path": str(tmp_path / "run" / "edits" / "hair" / "000.png")}
        assert [cells[-1] for cells in table["data"]] == [edit, None]

    @pytest.mark.parametrize(("images", "photos"), [(False, []), (True, ["figures/hair.png"])])
    def test_an_artifact_of_the_record(self, images, photos, sent):
        calls = sent(images=images, artifact=True)
        (artifact,) = calls("artifact")
        assert artifact["files"] == ["run.json", "config.yaml", "samples.jsonl", *photos]
        assert (artifact["type"], artifact["name"]) == ("record", f"record-{calls('init')[0]['id']}")


class TestSync:
    def run(self, *words):
        return cli.main(["track", "sync", *map(str, words)])

    def test_a_record_is_sent_whole_and_once(self, tmp_path, stub, capsys):
        calls, run = stub(), finished(tmp_path / "run")
        before = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
        assert self.run(run) == 0
        first = calls()
        assert [c["call"] for c in first if c["call"] != "define"] == ["init", *5 * ["log"], "summary", "log", "finish"]
        assert first[0]["config"]["name"] == "toy"
        assert (first[0]["project"], first[0]["group"], first[0]["mode"]) == ("semfacediff", "toy", "offline")
        assert first[0]["resume"] is None
        assert first[-1]["exit_code"] == 0
        out = capsys.readouterr().out
        assert out == (
            f"{run}: written as W&B run {first[0]['id']}; upload it with: "
            f"wandb sync {run}/wandb/offline-run-*-{first[0]['id']}\n"
        )
        assert self.run(run) == 0
        assert calls() == first
        assert capsys.readouterr().out == f"{run}: nothing new\n"
        assert {p: p.read_bytes() for p in run.iterdir() if p.is_file()} == before

    def test_what_has_changed_is_sent_again_under_the_same_id(self, tmp_path, stub, capsys):
        calls, run = stub(), finished(tmp_path / "run", status=INCOMPLETE)
        self.run(run)
        with opened(run) as record:
            record.close(DONE)
        self.run(run)
        assert [c["exit_code"] for c in calls() if c["call"] == "finish"] == [1, 0]
        assert len({c["id"] for c in calls() if c["call"] == "init"}) == 1

    def test_a_run_that_was_tracked_has_nothing_new(self, tmp_path, stub, capsys):
        calls, run = stub(), tmp_path / "run"
        with opened(run, tracking_options=json.dumps(options())) as record, tracking.tracked(record, options(), "toy"):
            record.close(DONE)
        sent = calls()
        assert self.run(run) == 0
        assert capsys.readouterr().out == f"{run}: nothing new\n"
        assert calls() == sent
        self.run(run, "--project", "other", "--tag", "x", "--tag", "y", "--group", "g")
        again = calls()[len(sent)]
        assert (again["project"], again["tags"], again["group"], again["id"]) == (
            "other",
            ["x", "y"],
            "g",
            sent[0]["id"],
        )

    def test_online_it_goes_on_with_the_same_run(self, tmp_path, stub, monkeypatch, capsys):
        calls, run = stub(), finished(tmp_path / "run")
        self.run(run)
        monkeypatch.setenv("WANDB_API_KEY", "k")
        self.run(run)
        offline, online = (c for c in calls() if c["call"] == "init")
        assert (online["mode"], online["resume"], online["id"]) == ("online", "allow", offline["id"])
        assert capsys.readouterr().out.endswith(f"{run}: sent as W&B run {online['id']}\n")

    def test_several_runs_and_what_is_none(self, tmp_path, stub, capsys):
        calls = stub()
        runs = [finished(tmp_path / name) for name in "ab"]
        assert self.run(*runs, tmp_path / "nothing") == 2
        shown = capsys.readouterr()
        assert shown.out.count("written as W&B run") == 2
        assert shown.err.startswith(f"error: {tmp_path}/nothing/run.json: not a run's record")
        assert len({c["id"] for c in calls() if c["call"] == "init"}) == 2

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("raise ImportError('no such library')", "W&B failed (ImportError: no such library)"),
            (
                RECORDER + "\ndef init(**options):\n    raise RuntimeError('refused')",
                "W&B failed (RuntimeError: refuse",
            ),
            (RECORDER + "\nimport os\ndef init(**options):\n    os._exit(7)", "W&B ended with code 7"),
        ],
    )
    def test_a_refusal_is_a_sentence_and_is_not_taken_for_sent(self, tmp_path, stub, capsys, source, said):
        stub(source)
        run = finished(tmp_path / "run")
        assert self.run(run) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {run}: {said}")
        assert error.endswith("nothing is lost, repeat the command to try again\n")
        assert len(error.splitlines()) == 1
        calls = stub()
        assert self.run(run) == 0
        assert calls()[-1]["call"] == "finish"

    def test_a_damaged_note_of_what_was_sent_only_costs_a_second_sending(self, tmp_path, stub):
        calls, run = stub(), finished(tmp_path / "run")
        self.run(run)
        (run / "wandb" / "sent.json").write_text("[")
        self.run(run)
        self.run(run)
        assert len([c for c in calls() if c["call"] == "init"]) == 2

    def test_disabled_nothing_is_taken_for_sent(self, tmp_path, stub, monkeypatch):
        calls, run = stub(), finished(tmp_path / "run")
        monkeypatch.setenv("WANDB_MODE", "disabled")
        self.run(run)
        self.run(run)
        assert len([c for c in calls() if c["call"] == "init"]) == 2

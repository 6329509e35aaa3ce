"""The mirror of a run: what it sends, and that a run neither needs it, waits for it nor notices its failures."""

import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import time
import types

import pytest

from semfacediff import config, hydra_app, tasks
from semfacediff.errors import UserError
from semfacediff.records import mirroring, tracking
from semfacediff.records.folder import DONE, RunFolder
from semfacediff.records.writing import write_text

from .wandb_stub import RECORDER, REFUSING_ONLINE, options

OPTIONS = options()
WHERE = (
    "tracking: W&B offline (no login for {server}), in {run}/wandb; "
    "send it with: semfacediff track sync --mode online {run}\n"
)
FAILING = {
    "import": "raise ImportError('no such library')",
    "import, oddly": "import sys; sys.exit('please log in')",
    "init": RECORDER + "\ndef init(**options):\n    raise RuntimeError('refused')",
    "log": RECORDER + "\ndef log(self, values):\n    raise OSError('quota')\nRun.log = log",
    "finish": RECORDER + "\ndef finish(self, exit_code):\n    raise TimeoutError()\nRun.finish = finish",
    "crash": RECORDER + "\nimport os\ndef init(**options):\n    os._exit(7)",
}
LATE = "\nimport time\nbegin = init\ndef init(**options):\n    time.sleep(0.3)\n    return begin(**options)"
HANGING = RECORDER + "\nimport time\ndef init(**options):\n    note('hangs', pid=os.getpid())\n    time.sleep(600)"


def opened(path):
    return RunFolder(path, {"seed": 1}, {"task": "training", "config_digest": "c"}, "seed: 1\nname: toy\n")


def small_run(path, options, epochs=3):
    """A run with a history, a summary and a figure, mirrored as ``options`` say."""
    with opened(path) as record, tracking.tracked(record, options, "toy") as grown:
        for epoch in range(1, epochs + 1):
            rows = "".join(f"{e},{1 / e:.4f},\n" for e in range(1, epoch + 1))
            write_text(path / "history.csv", "epoch,train_loss,val_miou\n" + rows)
            grown()
        write_text(path / "summary.csv", "attribute,n,lpips_mean,fid\nhair,3,0.25,\nlips,2,0.5,nan\n")
        write_text(path / "figures" / "hair.png", "a photo")
        record.close(DONE)


def digests(path):
    """Digest of every file of a run but the mirror's, times left out."""
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and "wandb" not in p.relative_to(path).parts):
        data = file.read_bytes()
        if file.name == "run.json":
            facts = json.loads(data)
            data = json.dumps({k: v for k, v in facts.items() if k not in TIMES}).encode()
        found[str(file.relative_to(path))] = hashlib.sha256(data).hexdigest()
    return found


TIMES = ("run_id", "started", "finished", "wall_time_s", "command")


class TestWhatIsSent:
    def test_history_as_it_grows_and_the_summary_at_the_end(self, tmp_path, stub):
        calls = stub(RECORDER)
        small_run(tmp_path / "run", OPTIONS)
        assert calls()[0]["call"] == "init"
        logs, (summary,), finish = calls("log"), calls("summary"), calls()[-1]
        assert [c["values"] for c in logs[:3]] == [
            {"epoch": 1.0, "train_loss": 1.0},
            {"epoch": 2.0, "train_loss": 0.5},
            {"epoch": 3.0, "train_loss": 0.3333},
        ]
        assert [(c["name"], c["axis"]) for c in calls("define")] == [("epoch", None), ("train_loss", "epoch")]
        table = {
            "columns": ["attribute", "n", "lpips_mean", "fid"],
            "data": [["hair", 3, 0.25, None], ["lips", 2, 0.5, None]],
        }
        assert [c["values"] for c in logs[3:]] == [{"summary": table}]
        of_rows = {"hair/n": 3, "hair/lpips_mean": 0.25, "lips/n": 2, "lips/lpips_mean": 0.5}
        assert summary["values"] == {**of_rows, "n": 2.5, "lpips_mean": 0.375}
        assert finish == {"call": "finish", "exit_code": 0}

    def test_names_group_tags_and_the_resolved_configuration(self, tmp_path, stub):
        calls = stub(RECORDER)
        small_run(tmp_path / "toy-12345678", OPTIONS)
        first = calls()[0]
        expected = {"project": "faces", "entity": None, "group": "toy", "tags": ["a", "b"], "mode": "offline"}
        assert {k: first[k] for k in expected} == expected
        assert (first["name"], first["job_type"]) == ("toy-12345678", "training")
        assert first["config"]["seed"] == 1
        assert first["config"]["record"]["config_digest"] == "c"
        assert first["dir"] == str(tmp_path / "toy-12345678")
        # W&B may answer after a minute, and still before the mirror gives up
        assert 60 < first["settings"]["init_timeout"] < mirroring.GIVE_UP_S

    def test_the_group_of_the_options_wins(self, tmp_path, stub):
        calls = stub(RECORDER)
        small_run(tmp_path / "run", {**OPTIONS, "group": "sweep"}, epochs=1)
        assert calls()[0]["group"] == "sweep"

    def test_photos_leave_the_machine_only_if_asked(self, tmp_path, stub):
        calls = stub(RECORDER)
        small_run(tmp_path / "run", OPTIONS, epochs=1)
        assert "hair.png" not in str(calls())
        small_run(tmp_path / "other", {**OPTIONS, "images": True}, epochs=1)
        (image,) = [c["values"] for c in calls() if "figures/hair" in c.get("values", {})]
        assert image["figures/hair"]["path"] == str(tmp_path / "other" / "figures" / "hair.png")

    def test_a_run_that_ends_early_is_marked(self, tmp_path, stub):
        calls = stub(RECORDER)
        with (
            pytest.raises(UserError, match="loss"),
            opened(tmp_path / "run") as record,
            tracking.tracked(record, OPTIONS, "toy"),
        ):
            raise UserError("the loss became nan")
        assert calls()[-1] == {"call": "finish", "exit_code": 1}

    def test_a_run_has_the_same_id_in_every_sitting_and_no_other_run_has_it(self, tmp_path, stub):
        calls = stub(RECORDER)
        for name in ("run", "run", "other"):
            with opened(tmp_path / name) as record, tracking.tracked(record, OPTIONS, "toy"):
                pass
        first, again, other = (c["id"] for c in calls() if c["call"] == "init")
        assert first == again != other
        assert len(first) == 16

    def test_a_continued_run_sends_its_whole_history(self, tmp_path, stub):
        calls = stub(RECORDER)
        with opened(tmp_path / "run") as record:
            write_text(record.path / "history.csv", "epoch,train_loss\n1,0.5\n")
        small_run(tmp_path / "run", OPTIONS, epochs=2)
        assert [c["values"]["epoch"] for c in calls("log")[:2]] == [1, 2]

    def test_steps_and_epochs_have_axes_of_their_own(self, tmp_path, mirrored):
        with opened(tmp_path / "run") as record:
            rows = "10,0.5,1e-3,inf\n20,0.25,1e-3,2\n30,0."
            write_text(record.path / "steps.csv", "step,loss,lr_encoder,gradient_norm\n" + rows)
            write_text(record.path / "history.csv", "epoch,phase,val_miou,val_iou_hair,val_iou_hat\n1,adamw,0.4,0.5,\n")
        calls, _ = mirrored(tmp_path / "run")
        assert [c["values"] for c in calls("log")] == [
            {"train/step": 10, "train/loss": 0.5, "train/lr_encoder": 0.001},
            {"train/step": 20, "train/loss": 0.25, "train/lr_encoder": 0.001, "train/gradient_norm": 2},
            {"epoch": 1, "val_miou": 0.4, "val_iou_hair": 0.5},
        ]
        axes = {c["name"]: c["axis"] for c in calls("define")}
        assert {n for n, axis in axes.items() if axis is None} == {"train/step", "epoch"}
        assert {n for n, axis in axes.items() if axis == "epoch"} == {"val_miou", "val_iou_hair"}
        assert axes["train/gradient_norm"] == axes["train/loss"] == "train/step"

    def test_what_a_continued_run_has_is_not_sent_again(self, tmp_path, mirrored, monkeypatch):
        monkeypatch.setenv("WANDB_STUB_SUMMARY", '{"epoch": 2, "train/step": 10}')
        with opened(tmp_path / "run") as record:
            write_text(record.path / "steps.csv", "step,loss\n10,0.5\n20,0.25\n")
            write_text(record.path / "history.csv", "epoch,train_loss\n1,3\n2,2\n3,1\n")
        calls, _ = mirrored(tmp_path / "run")
        assert [c["values"] for c in calls("log")] == [
            {"train/step": 20, "train/loss": 0.25},
            {"epoch": 3, "train_loss": 1},
        ]

    def test_the_summary_has_the_best_epoch(self, tmp_path, mirrored):
        with opened(tmp_path / "run") as record:
            write_text(record.path / "history.csv", "epoch,train_loss,val_miou\n1,3,0.4\n2,2,0.6\n3,1,0.5\n")
            record.update(best_epoch=2)
        calls, _ = mirrored(tmp_path / "run")
        assert [c["values"] for c in calls("summary")] == [
            {"best/epoch": 2, "best/train_loss": 2, "best/val_miou": 0.6}
        ]

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({}, {"disable_git": True, "x_disable_stats": True, "x_disable_meta": True, "console": "off"}),
            ({"git": True}, {"disable_git": False, "x_disable_stats": True, "x_disable_machine_info": False}),
            ({"system": True}, {"disable_git": True, "x_disable_stats": False, "x_disable_machine_info": False}),
            ({"console": True}, {"console": "wrap", "x_disable_meta": True, "x_disable_machine_info": True}),
        ],
    )
    def test_what_wandb_collects_by_itself_is_asked_for(self, asked, expected):
        from wandb.sdk.wandb_settings import Settings

        given = mirroring._settings(config.WandbTracking.model_validate(options(**asked)))
        assert given.items() >= expected.items()
        assert given["disable_code"]
        Settings(**given)  # the library knows them all

    def test_the_console_of_the_run(self, tmp_path, mirrored, capsys, monkeypatch):
        monkeypatch.setattr(tracking, "_Mirror", lambda *_: types.SimpleNamespace(notify=None, close=lambda: None))
        with opened(tmp_path / "run") as record, tracking.tracked(record, options(console=True), "toy"):
            print("a result")
            print("a warning", file=sys.stderr)
        shown = capsys.readouterr()
        assert (shown.out, shown.err.splitlines()[-1]) == ("a result\n", "a warning")
        calls, _ = mirrored(tmp_path / "run", console=True)
        assert capsys.readouterr().out.endswith("a result\na warning\n"), "for W&B, which captures it"
        assert calls("init")[0]["settings"]["console"] == "wrap"

    def test_a_console_that_cannot_be_copied(self, tmp_path, stub, capsys, monkeypatch):
        monkeypatch.setattr(tracking, "_Mirror", lambda *_: types.SimpleNamespace(notify=None, close=lambda: None))
        with opened(tmp_path / "run") as record:
            (record.path / "wandb" / "console.log").mkdir(parents=True)
            with tracking.tracked(record, options(console=True), "toy"):
                print("a result")
        shown = capsys.readouterr()
        assert shown.out == "a result\n"
        assert "tracking: the console is not copied (Is a directory)" in shown.err


def test_a_finished_cell_appears_under_the_run_of_each_agent(tmp_path, stub, monkeypatch, capfd):
    """``wandb agent`` names the run; see test_wandb_agent.py for whole commands."""
    calls, asked = stub(), options(mode="auto")
    small_run(tmp_path / "run", {"name": "none"})
    before = digests(tmp_path / "run")
    wanted = config.WandbTracking.model_validate({**asked, "group": "toy"})
    for name, value in {"API_KEY": "k", "SWEEP_ID": "s1", "PROJECT": "rates"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for run in ("r1", "r2"):
        monkeypatch.setenv("WANDB_RUN_ID", run)
        assert mirroring.is_new(tmp_path / "run", wanted)
        with opened(tmp_path / "run") as record, tracking.tracked(record, asked, "toy"):
            assert record.finished
        assert not mirroring.is_new(tmp_path / "run", wanted)
    assert [(c["id"], c["mode"]) for c in calls("init")] == [("r1", "online"), ("r2", "online")]
    assert [c["values"]["epoch"] for c in calls("log") if "epoch" in c["values"]] == 2 * [1, 2, 3]
    assert [c["exit_code"] for c in calls("finish")] == [0, 0]
    assert digests(tmp_path / "run") == before
    assert capfd.readouterr().err.splitlines() == [
        "tracking: W&B online, project rates, run r1 of sweep s1",
        "tracking: W&B online, project rates, run r2 of sweep s1",
    ]


class TestNothingIsMirrored:
    @pytest.mark.parametrize("case", ["none", "finished", "second process"])
    def test_no_process_is_started(self, case, tmp_path, stub, monkeypatch):
        calls = stub(RECORDER)
        monkeypatch.setattr(tracking.subprocess, "Popen", None)
        if case == "finished":
            small_run(tmp_path / "run", {"name": "none"})
        if case == "second process":
            monkeypatch.setenv("RANK", "1")
        with (
            opened(tmp_path / "run") as record,
            tracking.tracked(record, {"name": "none"} if case == "none" else OPTIONS, "toy") as grown,
        ):
            grown()
        assert calls() == []


class TestFailures:
    @pytest.mark.parametrize("part", FAILING)
    def test_the_run_has_the_same_files_and_says_one_sentence(self, part, tmp_path, stub, capfd):
        small_run(tmp_path / "plain", {"name": "none"})
        stub(FAILING[part])
        small_run(tmp_path / "run", OPTIONS)
        assert digests(tmp_path / "run") == digests(tmp_path / "plain")
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("tracking: W&B " + ("ended with code 7" if part == "crash" else "failed")) == 1
        assert len(err.splitlines()) == 2  # where it goes, and the failure
        assert err.rstrip().endswith("the run's own record does not depend on it")

    def test_the_sentence_gives_the_reason(self, tmp_path, stub, capfd):
        stub(FAILING["init"])
        small_run(tmp_path / "run", OPTIONS, epochs=1)
        assert "W&B failed (RuntimeError: refused);" in capfd.readouterr().err

    def test_a_run_does_not_wait_for_one_that_hangs(self, tmp_path, stub, capfd, monkeypatch):
        calls = stub(HANGING)
        monkeypatch.setattr(tracking, "WAIT_S", 1.0)
        start = time.monotonic()
        with opened(tmp_path / "run") as record, tracking.tracked(record, OPTIONS, "toy") as grown:
            while not calls():
                time.sleep(0.02)
            before = time.monotonic()
            for _ in range(70_000):  # more than the pipe holds
                grown()
            assert time.monotonic() - before < 5
            record.close(DONE)
        os.kill(calls()[0]["pid"], signal.SIGKILL)
        assert time.monotonic() - start < 15
        assert "W&B is still busy after 1 s and goes on in the background" in capfd.readouterr().err

    def test_an_answer_that_comes_late_is_an_answer(self, tmp_path, stub, capfd, monkeypatch):
        calls = stub(RECORDER + LATE)
        monkeypatch.setattr(tracking, "WAIT_S", 0.1)
        small_run(tmp_path / "run", options(mode="online"))
        assert "W&B is still busy after 0.1 s and goes on in the background" in capfd.readouterr().err
        deadline = time.monotonic() + 60
        while not calls("finish"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [c["values"]["epoch"] for c in calls("log")[:3]] == [1, 2, 3]

    def test_a_wrong_key_is_a_sentence_and_an_offline_copy(self, tmp_path, stub, capfd, monkeypatch):
        calls = stub(REFUSING_ONLINE)
        monkeypatch.setenv("WANDB_API_KEY", "wrong")
        run, asked = tmp_path / "run", options(mode="auto")
        small_run(run, asked)
        where, refusal = capfd.readouterr().err.splitlines()
        assert where == "tracking: W&B online, project faces"
        assert refusal == (
            "tracking: W&B refused (PermissionError: 401: the API key is wrong); the copy stays offline in "
            f"{run}/wandb, send it later with: semfacediff track sync --mode online {run}"
        )
        assert [c["mode"] for c in calls("init")] == ["offline"]
        assert calls("finish")[-1]["exit_code"] == 0
        wanted = config.WandbTracking.model_validate({**asked, "group": "toy"})
        with pytest.raises(UserError, match="401: the API key is wrong"):
            tracking.sync(run, wanted)
        assert mirroring.is_new(run, wanted), "of W&B, which has nothing"

    def test_a_wrong_key_is_a_failure_where_online_was_asked_for(self, tmp_path, mirrored):
        small_run(tmp_path / "run", {"name": "none"})
        with pytest.raises(PermissionError, match="401"):
            mirrored(tmp_path / "run", REFUSING_ONLINE, mode="online")

    def test_a_mirror_that_is_left_alone_gives_up(self, tmp_path, stub, monkeypatch):
        calls = stub(HANGING)
        small_run(tmp_path / "run", {"name": "none"})
        source = "from semfacediff.records import mirroring; mirroring.GIVE_UP_S = 0.3; mirroring._main"
        command = f"{source}({str(tmp_path / 'run')!r}, {json.dumps(json.dumps(OPTIONS))})"
        start = time.monotonic()
        process = tracking.subprocess.Popen([tracking.sys.executable, "-c", command], stdin=tracking.subprocess.DEVNULL)
        assert process.wait(30) == 1
        assert calls()[0]["call"] == "hangs"
        assert time.monotonic() - start < 20

    def test_no_process_can_be_started(self, tmp_path, capfd, monkeypatch):
        monkeypatch.setattr(tracking.sys, "executable", str(tmp_path / "nothing"))
        small_run(tmp_path / "run", OPTIONS)
        assert "tracking: no process for W&B" in capfd.readouterr().err
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == DONE


class TestTheLibrary:
    """The real wandb, offline or refused, in a home of its own."""

    @pytest.fixture
    def server(self, tmp_path, monkeypatch):
        """A listening socket in the place of W&B and of every proxy: every connection is seen."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            for name in ("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
                monkeypatch.setenv(name, address)
            for name in ("NO_PROXY", "no_proxy", "WANDB_API_KEY", "WANDB_MODE", "NETRC"):
                monkeypatch.delenv(name, raising=False)
            monkeypatch.setenv("HOME", str(tmp_path / "home"))
            server.setblocking(False)
            yield server

    def test_offline_it_writes_below_the_run_and_calls_nobody(self, tmp_path, server, capfd, monkeypatch):
        monkeypatch.setattr(tracking, "WAIT_S", 60)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        small_run(tmp_path / "run", OPTIONS)
        (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
        (table,) = (folder / "files" / "media" / "table").glob("summary*.table.json")
        assert json.loads(table.read_text())["data"][0] == ["hair", 3, 0.25, None]
        assert list(folder.glob("run-*.wandb"))
        assert not list((tmp_path / "elsewhere").iterdir())
        with pytest.raises(BlockingIOError):
            server.accept()
        assert capfd.readouterr().err == WHERE.format(
            run=tmp_path / "run", server=f"127.0.0.1:{server.getsockname()[1]}"
        )

    def test_online_without_a_login_is_a_sentence(self, tmp_path, server, capfd, monkeypatch):
        monkeypatch.setattr(tracking, "WAIT_S", 60)
        small_run(tmp_path / "run", {**OPTIONS, "mode": "online"})
        err = capfd.readouterr().err
        where, failure = err.splitlines()
        assert where == "tracking: W&B online, project faces"
        assert failure.startswith("tracking: W&B failed (")
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == DONE


class TestConfiguration:
    @pytest.fixture
    def typed(self, compose):
        return lambda *o: config.typed(compose("evaluate", *o), config.EditingEvaluation, config.ParsingEvaluation)

    def test_it_is_off_by_default_and_images_stay(self, typed, monkeypatch):
        monkeypatch.delenv("SEMFACEDIFF_SWEEP", raising=False)
        assert typed().tracking.model_dump() == {"name": "none"}
        settings = typed("tracking=wandb").tracking
        assert (settings.mode, settings.group, settings.images) == ("auto", None, False)

    def test_jobs_of_a_sweep_share_a_group(self, typed, monkeypatch):
        monkeypatch.setenv("SEMFACEDIFF_SWEEP", "strength")
        assert typed("tracking=wandb").tracking.group == "strength"

    def test_it_is_no_part_of_a_runs_identity(self, typed, compose):
        both = [(), ("tracking=wandb", "tracking.project=other")]
        plain, tracked = (config.digest(config.scientific(typed(*o))) for o in both)
        assert plain == tracked
        plain, tracked = (hydra_app._folder_digest(_root_=compose("evaluate", *o)) for o in both)
        assert plain == tracked
        assert hydra_app._folder_digest(_root_=compose("evaluate", "seed=1")) != plain

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("tracking.mode=sometimes", r"tracking.mode: input should be 'auto', 'online' or 'offline', got 'someti"),
            ("tracking.tags=['']", r"tracking.tags.0: string should have at least 1 character"),
            (
                "+tracking.grup=a",
                r"unknown key 'tracking.grup'; did you mean 'group'\? known here: artifact, console, entity, e",
            ),
        ],
    )
    def test_a_mistake_is_one_sentence(self, override, message, typed):
        with pytest.raises(UserError, match=message):
            typed("tracking=wandb", override)


class TestWholeRuns:
    @pytest.mark.slow
    def test_a_parsing_run_is_the_same_with_and_without(self, tmp_path, toy_folder, compose, stub, capsys):
        root = toy_folder(2)
        shutil.copytree(root / "masks", tmp_path / "parses" / "before")
        places = ("data=folder", f"data.root={root}", "parser=precomputed", f"+parser.root={tmp_path / 'parses'}")
        calls = stub(RECORDER)
        for name, choice in (("plain", "none"), ("run", "wandb")):
            cfg = compose("evaluate", "task=parsing", "data.split=all", *places, f"tracking={choice}")
            assert tasks.start(config.typed(cfg, config.ParsingEvaluation), tmp_path / name) == 0
        differing = {k for k, v in digests(tmp_path / "run").items() if digests(tmp_path / "plain")[k] != v}
        assert differing == {"config.yaml"}
        assert next(c for c in calls() if c["call"] == "summary")["values"]["miou/iou"] == 1.0
        points = [c["values"] for c in calls("log") if "running/rows" in c["values"]]
        assert points[-1]["running/rows"] == 2
        assert points[-1]["running/miou"] == 1.0

    @pytest.mark.slow
    def test_a_training_tells_each_epoch(self, tmp_path, compose, stub, capsys):
        calls = stub(RECORDER)
        small = ("data.count=6", "data.size=32", "train.size=32", "train.epochs=2", "train.batch_size=2")
        split = ("data.split_rule.modulo=3", "parser=unet_lite", "runtime.device=cpu", "runtime.workers=0")
        cfg = compose("train_parser", *small, *split, "tracking=wandb", "tracking.every_steps=2")
        assert tasks.start(config.typed(cfg, config.ParserTraining), tmp_path / "run") == 0
        logged = [c["values"] for c in calls("log")]
        assert [v["epoch"] for v in logged if "epoch" in v] == [1, 2]
        assert [v["train/step"] for v in logged if "train/step" in v] == [2, 4]
        assert calls()[0]["job_type"] == "train_parser"

"""The mirror of a run: what it sends, and that a run neither needs it, waits for it nor notices its failures."""

import hashlib
import json
import os
import shutil
import signal
import socket
import time

import pytest

from semfacediff import config, hydra_app, tasks
from semfacediff.errors import UserError
from semfacediff.records import mirroring, tracking
from semfacediff.records.folder import DONE, RunFolder
from semfacediff.records.writing import write_text

OPTIONS = {
    "name": "wandb",
    "project": "faces",
    "entity": None,
    "mode": "offline",
    "group": None,
    "tags": ["a", "b"],
    "images": False,
}
# A wandb that writes every call into the file WANDB_STUB, one JSON line each.
RECORDER = """
import json, os

def note(call, **facts):
    with open(os.environ["WANDB_STUB"], "a") as f:
        f.write(json.dumps({"call": call, **facts}, default=vars) + "\\n")

class Table:
    def __init__(self, columns, data):
        self.columns, self.data = columns, data

class Image:
    def __init__(self, path):
        self.path = path

def Settings(**settings):
    return settings

class Summary:
    def update(self, values):
        note("summary", values=values)

class Run:
    summary = Summary()
    def log(self, values, step=None):
        note("log", values=values, step=step)
    def finish(self, exit_code):
        note("finish", exit_code=exit_code)

def init(**options):
    note("init", **options)
    print("wandb prints whatever it likes")
    return Run()
"""
FAILING = {
    "import": "raise ImportError('no such library')",
    "import, oddly": "import sys; sys.exit('please log in')",
    "init": RECORDER + "\ndef init(**options):\n    raise RuntimeError('refused')",
    "log": RECORDER + "\ndef log(self, values, step=None):\n    raise OSError('quota')\nRun.log = log",
    "finish": RECORDER + "\ndef finish(self, exit_code):\n    raise TimeoutError()\nRun.finish = finish",
    "crash": RECORDER + "\nimport os\ndef init(**options):\n    os._exit(7)",
}
HANGING = RECORDER + "\nimport time\ndef init(**options):\n    note('hangs', pid=os.getpid())\n    time.sleep(600)"


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """``stub(source)``: the mirror imports ``source`` as wandb; returns a function that reads the recorded calls."""

    def install(source):
        folder, calls = tmp_path / "stub", tmp_path / "calls.jsonl"
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        (folder / "wandb" / "__init__.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("WANDB_STUB", str(calls))
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    return install


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
        first, *logs, summary, finish = calls()
        assert first["call"] == "init"
        assert [(c["step"], c["values"]) for c in logs[:3]] == [
            (1, {"epoch": 1.0, "train_loss": 1.0}),
            (2, {"epoch": 2.0, "train_loss": 0.5}),
            (3, {"epoch": 3.0, "train_loss": 0.3333}),
        ]
        table = {
            "columns": ["attribute", "n", "lpips_mean", "fid"],
            "data": [["hair", 3, 0.25, None], ["lips", 2, 0.5, None]],
        }
        assert [c["values"] for c in logs[3:]] == [{"summary": table}]
        assert summary["values"] == {"hair/n": 3, "hair/lpips_mean": 0.25, "lips/n": 2, "lips/lpips_mean": 0.5}
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
        assert first["settings"]["init_timeout"] <= 60

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
        assert [c["step"] for c in calls() if c["call"] == "log"][:2] == [1, 2]


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
        assert len(err.splitlines()) == 1
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
        assert capfd.readouterr().err == ""

    def test_online_without_a_login_is_a_sentence(self, tmp_path, server, capfd, monkeypatch):
        monkeypatch.setattr(tracking, "WAIT_S", 60)
        small_run(tmp_path / "run", {**OPTIONS, "mode": "online"})
        err = capfd.readouterr().err
        assert err.startswith("tracking: W&B failed (")
        assert len(err.splitlines()) == 1
        assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == DONE


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "k"}, "online"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
        ("offline", {"WANDB_API_KEY": "k"}, "offline"),
    ],
)
def test_offline_unless_a_login_or_the_user_says_otherwise(asked, environment, expected, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert mirroring.mode(asked) == expected


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
            ("+tracking.grup=a", r"unknown key 'tracking.grup'; did you mean 'group'\? known here: entity, group, im"),
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
        points = [c for c in calls() if c["call"] == "log" and c["step"]]
        assert points[-1]["step"] == points[-1]["values"]["running/rows"] == 2
        assert points[-1]["values"]["running/miou"] == 1.0

    @pytest.mark.slow
    def test_a_training_tells_each_epoch(self, tmp_path, compose, stub, capsys):
        calls = stub(RECORDER)
        small = ("data.count=6", "data.size=32", "train.size=32", "train.epochs=2", "train.batch_size=2")
        split = ("data.split_rule.modulo=3", "parser=unet_lite", "runtime.device=cpu", "runtime.workers=0")
        cfg = compose("train_parser", *small, *split, "tracking=wandb")
        assert tasks.start(config.typed(cfg, config.ParserTraining), tmp_path / "run") == 0
        assert [c["step"] for c in calls() if c["call"] == "log"] == [1, 2, None]
        assert calls()[0]["job_type"] == "train_parser"

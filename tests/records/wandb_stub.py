"""A wandb that writes every call into the file ``WANDB_STUB``, one JSON line each."""

import json
import os
import sys
import types

import pytest

from semfacediff.config import WandbTracking
from semfacediff.records import mirroring

RECORDER = """
import json, os

def note(call, **facts):
    drawn = {"of": os.environ["WANDB_RUN_ID"]} if "WANDB_RUN_ID" in os.environ else {}
    with open(os.environ["WANDB_STUB"], "a") as f:
        f.write(json.dumps({"call": call, **facts, **drawn}, default=vars) + "\\n")

class Table:
    def __init__(self, columns, data):
        self.columns, self.data = columns, data

class Image:
    def __init__(self, path):
        self.path = path

class Artifact:
    def __init__(self, name, type):
        self.name, self.type, self.files = name, type, []
    def add_file(self, path, name):
        assert os.path.isfile(path)
        self.files.append(name)

def Settings(**settings):
    return settings

class Summary(dict):
    def update(self, values):
        note("summary", values=values)

class Run:
    resumed = "WANDB_STUB_SUMMARY" in os.environ
    summary = Summary(json.loads(os.environ.get("WANDB_STUB_SUMMARY", "{}")))
    def define_metric(self, name, step_metric=None):
        note("define", name=name, axis=step_metric)
    def log(self, values):
        note("log", values=values)
    def log_artifact(self, artifact):
        note("artifact", **vars(artifact))
    def finish(self, exit_code):
        note("finish", exit_code=exit_code)

def teardown():
    pass

def init(**options):
    sweep = {"sweep": os.environ["WANDB_SWEEP_ID"]} if "WANDB_SWEEP_ID" in os.environ else {}
    note("init", **options, **sweep)
    print("wandb prints whatever it likes")
    return Run()
"""
REFUSING_ONLINE = (
    RECORDER
    + """
begin = init
def init(mode, **options):
    if mode == "online":
        raise PermissionError("401: the API key is wrong")
    return begin(mode=mode, **options)
"""
)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """``stub(source)``: the mirror imports ``source`` as wandb; returns a function that reads the recorded calls.

    There is no login of any kind.
    """
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "no settings"))

    def install(source=RECORDER):
        folder, calls = tmp_path / "stub", tmp_path / "calls.jsonl"
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        (folder / "wandb" / "__init__.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(folder) + os.pathsep + os.environ.get("PYTHONPATH", ""))
        monkeypatch.setenv("WANDB_STUB", str(calls))
        return lambda *names: [
            call
            for line in (calls.read_text().splitlines() if calls.exists() else [])
            if (call := json.loads(line))["call"] in names or not names
        ]

    return install


@pytest.fixture
def mirrored(stub, monkeypatch):
    """``mirrored(folder, **options)``: send a record from this process; (reader of the calls, sentences said)."""

    def send(folder, source=RECORDER, **changed):
        calls, said, module = stub(source), [], types.ModuleType("wandb")
        exec(source, vars(module))
        monkeypatch.setitem(sys.modules, "wandb", module)
        mirroring.mirror(folder, WandbTracking.model_validate(options(**changed)), say=said.append)
        return calls, said

    return send


def options(**changed):
    """The group ``tracking=wandb`` as a plain dictionary."""
    given = {"name": "wandb", "project": "faces", "entity": None, "mode": "offline", "group": None, "tags": ["a", "b"]}
    keys = ("images", "artifact", "system", "git", "console")
    return {**given, "every_steps": 10, **dict.fromkeys(keys, False), **changed}

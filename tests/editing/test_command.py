"""``editor=command``: what programs do, and what becomes of those that do it wrong."""

import gc
import json
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from semfacediff import config, tasks
from semfacediff.config.editing import OtherEditor
from semfacediff.editing import command as module
from semfacediff.editing.base import EditRequest
from semfacediff.editing.command import STDERR_BYTES
from semfacediff.editing.opening import open_editor
from semfacediff.errors import UserError
from semfacediff.types import RegionMasks

SERVER = """
import json, os, shutil, sys
print("loaded", file=sys.stderr, flush=True)
for i, line in enumerate(sys.stdin):
    told = json.loads(line)
    if told["prompt"] == "die": os._exit(3)
    if told["prompt"] == "refuse": print(json.dumps({"error": "no such colour"}), flush=True); continue
    if told["prompt"] == "chat": print("thinking", flush=True)
    if told["prompt"] == "wait": __import__("time").sleep(60)
    shutil.copy(told["mask" if told["prompt"] == "mask" else "photo"], told["out"])
    print(json.dumps({"pid": os.getpid(), "nth": i}), flush=True)
"""


@pytest.fixture
def request_of():
    g = torch.Generator().manual_seed(0)
    photo = torch.randint(0, 256, (3, 40, 48), generator=g).float() / 255
    mask = torch.zeros(1, 40, 48)
    mask[:, 8:20, 10:30] = 1
    masks = RegionMasks(mask, mask, mask, 0.1)
    return lambda prompt="x", negative=None: EditRequest("a", "hair", photo, masks, prompt, negative, 7)


def editor(*words, **options):
    words = words[0] if len(words) == 1 else list(words)
    return open_editor(OtherEditor(name="command", command=words, **options), torch.device("cpu"))[0]


def shell(script, **options):
    """``$photo`` and the others are the files and texts."""
    names = ("photo", "mask", "prompt", "negative", "seed", "attribute", "out")
    head = "; ".join(f"{name}=${{{i}}}" for i, name in enumerate(names, 1))
    return editor("sh", "-c", f"{head}; {script}", "sh", *(f"{{{name}}}" for name in names), **options)


def gone(pid):
    """Whether a process ended, which its parent (of orphans, the first process) may not have heard yet."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_files_go_out_and_the_edit_comes_back(request_of):
    request = request_of()
    assert torch.equal(editor("cp", "{photo}", "{out}").edit([request])[0], request.photo)
    assert torch.equal(editor("cp {photo} '{out}'").edit([request])[0], request.photo)
    mask = shell('cp "$mask" "$out"').edit([request])[0]
    assert torch.equal(mask, request.masks.generation.expand(3, -1, -1))


def test_no_shell_reads_the_words(request_of, tmp_path):
    prompt = """a "b" 'c' $HOME `id` ; touch x > {out} {seed} \\ *"""
    ran = shell(
        f'printf "%s|%s|%s|%s" "$prompt" "$negative" "$seed" "$attribute" > {tmp_path}/seen; cp "$photo" "$out"'
    )
    ran.edit([request_of(prompt, "bad {photo}")])
    assert (tmp_path / "seen").read_text() == f"{prompt}|bad {{photo}}|7|hair"
    assert ran.reads_negatives()
    assert not editor("cp {photo} {out}").reads_negatives()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", r"editor.command: ended with exit code 3; stderr is empty"),
        ("echo no memory >&2; kill -9 $$", r"was ended by signal 9; stderr: no memory$"),
        ("echo odd >&2", r"it reported no error, but wrote no \{out\}; .*stderr: odd"),
        ('echo hello > "$out"', r"\{out\}: not a readable image"),
        (': > "$out"', r"\{out\}: the file is empty"),
        ('mkfifo "$out"', r"\{out\}: expected a file, got a FIFO"),
    ],
)
def test_what_goes_wrong_is_said(request_of, script, message):
    with pytest.raises(UserError, match=message):
        shell(script).edit([request_of()])


def test_another_size_is_refused(request_of, tmp_path, encode):
    (tmp_path / "other.png").write_bytes(encode(torch.zeros(32, 64, 3, dtype=torch.uint8).numpy()))
    with pytest.raises(UserError, match=r"\{out\} is 64x32 px, its photo 48x40; an edit keeps the size"):
        shell(f'cp {tmp_path}/other.png "$out"').edit([request_of()])


def test_a_flood_on_stderr_is_kept_to_its_end(request_of):
    with pytest.raises(UserError, match=r"exit code 4; stderr: .*last words$") as e:
        shell("yes flood | head -c 5000000 >&2; echo last words >&2; exit 4").edit([request_of()])
    assert STDERR_BYTES < len(str(e.value)) < 3 * STDERR_BYTES


def test_time_is_up_for_the_whole_group(request_of, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 0.3)
    script = f"trap '' TERM; sleep 60 & echo $! $$ > {tmp_path}/pids; echo started >&2; sleep 60; sleep 60"
    started = time.monotonic()
    with pytest.raises(UserError, match=r"not done after 0.5 s and ended; set editor.timeout_s; stderr: started"):
        shell(script, timeout_s=0.5).edit([request_of()])
    assert time.monotonic() - started < 20
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_children_that_it_leaves_behind_end_with_it(request_of, tmp_path):
    ran = shell(f'sleep 60 & echo $! > {tmp_path}/pid; cp "$photo" "$out"')
    started = time.monotonic()
    assert torch.equal(ran.edit([request_of()])[0], request_of().photo)
    assert time.monotonic() - started < 20
    assert gone(int((tmp_path / "pid").read_text()))


def test_retries(request_of, tmp_path):
    script = f'echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -ge 3 ] && cp "$photo" "$out"'
    with pytest.raises(UserError, match=r"editor.command \(tried 2 times\): ended with exit code 1"):
        shell(script, retries=1).edit([request_of()])
    assert torch.equal(shell(script, retries=1).edit([request_of()])[0], request_of().photo)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "nosuchprogram {photo} {out}"}, r"'nosuchprogram' is no program on this machine"),
        ({"command": "cp {photo} {ouT}"}, r"expected a program and its arguments with \{out\}"),
        ({"command": []}, r"expected a program and its arguments"),
        ({"command": "cp '{photo} {out}"}, r"No closing quotation in .*; close the quotes"),
        ({"command": "cp {photo} {out}", "timeout": 3}, r"unknown option 'timeout'; did you mean 'timeout_s'\?"),
        ({"command": "cp {photo} {out}", "retries": "2"}, r"option retries: input should be a valid integer, got '2'"),
        ({"command": "cp {photo} {out}", "timeout_s": 0}, r"expected timeout_s over 0"),
        ({}, r"option command: field required"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        open_editor(OtherEditor(name="command", **options), torch.device("cpu"))


@pytest.fixture
def serve(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    return lambda: editor(sys.executable, "-u", str(tmp_path / "server.py"), serve=True, timeout_s=30)


def test_one_program_serves_all(request_of, serve):
    request, served = request_of(), serve()
    assert torch.equal(served.edit([request, request])[1], request.photo)
    first = served._served.process
    assert torch.equal(served.edit([request_of("mask")])[0][0], request.masks.generation[0])
    with pytest.raises(UserError, match=r"no such colour; stderr: loaded"):
        served.edit([request_of("refuse")])
    assert served._served.process is first
    pid = first.pid
    del served, first
    gc.collect()
    assert gone(pid)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("die", r"it ended with exit code 3 without an answer; stderr: loaded"),
        ("chat", r"expected one JSON object a line on stdout, got 'thinking'; print other text to stderr"),
    ],
)
def test_a_served_program_that_fails_is_started_again(request_of, serve, prompt, message):
    served = serve()
    served.edit([request_of()])
    pid = served._served.process.pid
    with pytest.raises(UserError, match=message):
        served.edit([request_of(prompt)])
    assert gone(pid)
    assert torch.equal(served.edit([request_of()])[0], request_of().photo)


def test_a_served_program_that_does_not_answer(request_of, serve):
    served = serve()
    served.edit([request_of()])
    pid, served.timeout_s = served._served.process.pid, 0.3
    with pytest.raises(UserError, match=r"no answer after 0.3 s, so it was ended"):
        served.edit([request_of("wait")])
    assert gone(pid)


def test_a_run_keeps_what_failed_and_knows_its_program(compose, tmp_path):
    script = tmp_path / "edit.sh"
    script.write_text('echo $2 >&2; [ "$2" != 42 ] && cp "$1" "$3"')
    words = "data.count=2 data.size=64 parser=ground_truth metrics=no_weights metrics.columns=[psnr] strips=0".split()
    words += "runtime.device=cpu runtime.workers=0 tracking=none editor=command attributes=[hair] seeds=run".split()
    words.append(f"+editor.command=[sh,{script},'{{photo}}','{{seed}}','{{out}}']")

    def run(folder, *more):
        return tasks.start(
            config.typed(compose("evaluate", *words, *more), config.EditingEvaluation), tmp_path / folder
        )

    assert run("well", "seed=1") == 0
    assert run("badly", "seed=42") == 1
    rows = [json.loads(line) for line in (tmp_path / "badly" / "samples.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows] == ["UserError: editor.command: ended with exit code 1; stderr: 42"] * 2
    facts = json.loads((tmp_path / "well" / "run.json").read_text())
    assert facts["identity"]["config"]["editor"]["command"] == ["sh", "edit.sh", "{photo}", "{seed}", "{out}"]
    assert str(tmp_path) not in (tmp_path / "well" / "config.yaml").read_text()
    script.write_text(script.read_text() + "\n# changed")
    with pytest.raises(UserError, match=r"belongs to another configuration: inputs.editor.digest was"):
        run("well", "seed=1")

"""SIGKILL at every operation on files: a folder that is replaced, and both trainings around their checkpoints."""

import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest

from semfacediff.folders import intact_folder, recover, replacing

from .killed_at import arm

FORK = multiprocessing.get_context("fork")  # only files are touched in the child
SCRIPT = Path(__file__).with_name("killed_at.py")


def write(folder, text):
    with replacing(folder) as new:
        (new / "one").write_text(text)
        (new / "two").write_text(text)


def killed_write(folder, text, at) -> bool:
    """Whether a process that replaces ``folder`` was killed at its operation ``at``."""

    def child():
        arm(at, folder.name)
        write(folder, text)

    process = FORK.Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -9)
    return process.exitcode == -9


def contents(folder) -> set[str]:
    place = intact_folder(folder)
    return {f.read_text() for f in place.iterdir()} if place else set()


def operations(folder) -> int:
    at = 1
    write(folder, "old")
    while killed_write(folder, "probe", at):
        at += 1
    return at - 1


class TestAReplacedFolder:
    def test_one_kill_leaves_the_old_or_the_new_one_whole(self, tmp_path):
        n = operations(tmp_path / "probed")
        assert n >= 5
        for at in range(1, n + 1):
            folder = tmp_path / f"case_{at}"
            write(folder, "old")
            killed_write(folder, "new", at)
            assert contents(folder) in ({"old"}, {"new"}), at
            assert len(list(intact_folder(folder).iterdir())) == 2
            recover(folder)
            assert [f.name for f in tmp_path.glob(f"{folder.name}*")] == [folder.name]
            write(folder, "next")
            assert contents(folder) == {"next"}

    def test_two_kills_lose_nothing(self, tmp_path):
        n = operations(tmp_path / "probed")
        for first in range(1, n + 1):
            for second in range(1, n + 1, 3):
                folder = tmp_path / f"case_{first}_{second}"
                write(folder, "old")
                killed_write(folder, "new", first)
                killed_write(folder, "newer", second)
                assert contents(folder) in ({"old"}, {"new"}, {"newer"}), (first, second)
                assert len(list(intact_folder(folder).iterdir())) == 2

    def test_the_first_one_is_whole_or_absent(self, tmp_path):
        for at in range(1, 5):
            folder = tmp_path / f"first_{at}"
            killed_write(folder, "new", at)
            assert contents(folder) in (set(), {"new"})

    def test_an_exception_leaves_the_old_one_and_nothing_else(self, tmp_path):
        write(tmp_path / "f", "old")

        def fill():
            with replacing(tmp_path / "f") as new:
                (new / "one").write_text("half")
                raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            fill()
        assert contents(tmp_path / "f") == {"old"}
        assert [f.name for f in tmp_path.iterdir()] == ["f"]


PARSER = [
    *("parser=fastscnn_lite", "data=toy", "data.count=10", "data.size=64", "train.epochs=2", "train.batch_size=4"),
    *("train.size=64", "train.checkpoint_every_steps=1", "train.keep_last=2", "optim.warmup_steps=1"),
]
SYNTHESIS = (
    "stage=first synthesis=tiny synthesis.image_size=32 synthesis.vq_codes=16 synthesis.style_features=1 "
    "synthesis.style_down=3 synthesis.token_width=4 synthesis.unet_multipliers=[1] synthesis.attention_factors=[1] "
    "data=toy data.count=10 data.size=32 data.split_rule.modulo=5 runtime.workers=0 vq.steps=4 vq.batch_size=2 "
    "vq.unquantised_steps=1 vq.validate_every_steps=2 vq.checkpoint_every_steps=2 vq.sample_every_steps=2"
).split()


def run(repository, script, words, folder, at) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, str(at), "checkpoints", repository / script, *words, f"hydra.run.dir={folder}"]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, cwd=folder.parent)


def outcome(folder) -> dict[str, bytes]:
    """Every file of a finished training that does not hold times or paths."""
    files = [*folder.glob("checkpoints/**/*"), folder / "history.csv", *folder.glob("figures/samples*")]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.is_file() and f.name != "state.pt"}


def compared(repository, tmp_path, script, words, every: int):
    """Train once, then kill at every ``every``-th operation and continue: the same files at the end."""
    whole = tmp_path / "run"
    done = run(repository, script, words, whole, 0)
    assert done.returncode == 0, done.stderr
    n, expected = int(re.search(r"operations: (\d+)", done.stderr)[1]), outcome(whole)
    assert n > 10
    whole.rename(tmp_path / "whole")
    for at in range(n, 0, -every):  # from the end, where the last checkpoint is
        assert run(repository, script, words, whole, at).returncode == -9
        again = run(repository, script, words, whole, 0)
        assert again.returncode == 0, again.stderr
        assert outcome(whole) == expected, at
        whole.rename(tmp_path / f"killed_at_{at}")


@pytest.mark.slow
@pytest.mark.parametrize(("script", "words"), [("train_parser.py", PARSER), ("train_synthesis.py", SYNTHESIS)])
def test_a_training_killed_at_any_operation_on_a_checkpoint_ends_whole(repository, tmp_path, script, words):
    compared(repository, tmp_path, script, words, every=1)


@pytest.mark.slow
@pytest.mark.parametrize(("script", "words"), [("train_parser.py", PARSER), ("train_synthesis.py", SYNTHESIS)])
def test_a_training_killed_at_the_last_operation_on_a_checkpoint_ends_whole(repository, tmp_path, script, words):
    compared(repository, tmp_path, script, words, every=10_000)

"""How many threads a process keeps busy: affinity, quotas of control groups, launchers, and who is told."""

import os
from pathlib import Path

import cv2
import pytest
import torch

from semfacediff import config, hydra_app, threads, weight_files
from semfacediff.records.environment import hardware
from semfacediff.threads import allowed_cores, announce, threads_of, use_threads


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """``machine(cores, files)``: a machine's cores and its ``/proc`` and ``/sys``, for :func:`allowed_cores`."""
    for name in (*threads.VARIABLES, "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)

    def make(cores, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(threads.allowed_cores, "__defaults__", (tmp_path,))
        return tmp_path

    return make


V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/abc\n0::/\n"
GROUPS = {
    "none": (64, {}, 64),
    "two": (64, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "unlimited": (3, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 3),
    "half a core": (64, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "a part is left": (64, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
    "more than there is": (4, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "800000 100000\n"}, 4),
    "of the group around": (
        64,
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
        },
        3,
    ),
    "of the host's path": (64, {"proc/self/cgroup": "0::/host/box\n", "sys/fs/cgroup/cpu.max": "500000 100000\n"}, 5),
    "version 1": (
        64,
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "version 1, unlimited": (
        5,
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        5,
    ),
    "damaged": (7, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "many\n"}, 7),
}


@pytest.mark.parametrize("case", GROUPS)
def test_cores_are_those_of_the_affinity_and_the_quota(case, machine):
    cores, files, expected = GROUPS[case]
    assert allowed_cores(machine(cores, files)) == expected


def test_without_affinity_it_is_what_the_system_counts(machine, monkeypatch):
    machine(1, {})
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert allowed_cores() == 6


class TestWish:
    def test_it_is_obeyed(self, machine):
        machine(2, {})
        assert threads_of(5) == 5

    def test_without_one_the_quota_counts(self, machine):
        machine(64, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"})
        assert threads_of(None) == 2

    def test_processes_of_a_launcher_share_the_cores(self, machine, monkeypatch):
        machine(2, {})
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        assert threads_of(None) == 1, "two processes on two cores"
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
        assert threads_of(None) == 1

    @pytest.mark.parametrize(("said", "expected"), [("3", 3), ("3,1", 3), ("0", 8), ("", 8), ("many", 8)])
    def test_what_openmp_is_told_counts(self, machine, monkeypatch, said, expected):
        machine(8, {})
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert threads_of(None) == expected

    def test_an_impossible_one_is_refused(self, compose):
        with pytest.raises(Exception, match=r"runtime.threads.* greater than or equal to 1"):
            config.typed(compose("evaluate", "data=toy", "runtime.threads=0"), config.EditingEvaluation)


class TestTelling:
    def test_libraries_that_come_later_read_the_environment(self, machine, monkeypatch):
        machine(3, {})
        monkeypatch.setenv("MKL_NUM_THREADS", "1")
        announce()
        assert [os.environ[name] for name in threads.VARIABLES] == ["3", "1", "3"], "what a user has set stays"
        announce(2)
        assert {os.environ[name] for name in threads.VARIABLES} == {"2"}

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["runtime.threads=2"], "2"),
            (["runtime.threads=null"], "8"),
            ([], "8"),
            (["hydra/launcher=joblib", "-m"], None),
            (["runtime.threads=2", "-m"], "2"),
        ],
    )
    def test_scripts_tell_them_before_they_load(self, machine, monkeypatch, words, expected):
        machine(8, {})
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", dict(os.environ))
            hydra_app._announce_threads(words)
            assert os.environ.get("OPENBLAS_NUM_THREADS") == expected

    def test_torch_and_opencv_are_told_at_once(self):
        before = torch.get_num_threads(), cv2.getNumThreads()
        try:
            assert use_threads(3) == 3
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
            assert hardware()["torch_threads"] == 3
        finally:
            torch.set_num_threads(before[0])
            cv2.setNumThreads(before[1])

    def test_the_record_says_what_computed(self):
        found = hardware()
        assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
        assert found["allowed_cores"] == allowed_cores() >= 1


class TestConfiguration:
    @pytest.mark.parametrize("primary", ["evaluate", "train_parser"])
    def test_no_number_depends_on_it(self, compose, primary):
        model = {"evaluate": config.EditingEvaluation, "train_parser": config.ParserTraining}[primary]
        plain, many = (
            config.typed(compose(primary, "data=toy", *words), model) for words in ([], ["runtime.threads=7"])
        )
        assert many.runtime.threads == 7
        assert config.scientific(plain) == config.scientific(many)

    def test_workers_are_no_more_than_threads(self, compose):
        words = ["data=toy", "runtime.workers=8"]
        few, many = (
            config.typed(compose("evaluate", *words, f"runtime.threads={n}"), config.EditingEvaluation) for n in (2, 9)
        )
        assert (few.runtime.decoders, many.runtime.decoders) == (2, 8)
        assert few.runtime.workers == 8, "as asked"


def test_the_one_thread_of_torchrun_is_no_wish(monkeypatch):
    """torchrun sets OMP_NUM_THREADS=1 by itself where several processes start on a machine."""
    monkeypatch.setattr(threads, "allowed_cores", lambda: 64)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.threads_of(None) == 1  # a user's own wish
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert threads.threads_of(None) == 32
    threads.announce()
    assert os.environ["OMP_NUM_THREADS"] == "32"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.threads_of(None) == 3


def test_decoders_keep_to_the_share_of_the_cores_and_not_to_those_of_openmp(monkeypatch, compose):
    monkeypatch.setattr(threads, "allowed_cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runtime = {k: v for k, v in compose("evaluate").runtime.items() if k != "diffusion"}
    known = {**runtime, "diffusion": dict(compose("evaluate").runtime.diffusion), "workers": 8}
    assert config.RuntimeConfig(**known).decoders == 6
    assert config.RuntimeConfig(**known | {"threads": 2}).decoders == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert config.RuntimeConfig(**known).decoders == 2


def test_messages_name_paths_of_a_user_without_a_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", lambda _: no_home())
    monkeypatch.setattr(Path, "home", no_home)
    assert weight_files.shown(Path("/somewhere/weights.pth")) == "/somewhere/weights.pth"
    assert weight_files.in_home("~/.cache/clip") == Path("~/.cache/clip")

"""Peak memory belongs to the edit that needed it, not to whatever ran before in the same process."""

import mmap
import os

import pandas as pd
import pytest
import torch

from semfacediff import config, tasks
from semfacediff.editing.identity import Identity
from semfacediff.engine import peak_memory
from semfacediff.engine.peak_memory import peak_memory_mib, reset_peak_memory
from semfacediff.tasks.editing import bench as editing_bench


class FakeMemory:
    """An accelerator's counter: a peak that only a reset lowers, to what is allocated then."""

    def __init__(self):
        self.allocated = self.peak = 100.0

    def work(self, mib: float) -> None:
        self.peak = max(self.peak, self.allocated + mib)

    def reset(self, device) -> None:
        self.peak = self.allocated

    def read(self, device) -> float:
        return self.peak


@pytest.fixture
def memory(monkeypatch) -> FakeMemory:
    fake = FakeMemory()
    monkeypatch.setattr(editing_bench, "reset_peak_memory", fake.reset)
    monkeypatch.setattr(editing_bench, "peak_memory_mib", fake.read)
    return fake


def test_every_sample_and_every_cell_of_a_sweep_has_a_peak_of_its_own(compose, memory, monkeypatch, tmp_path):
    needs = {"hair": 900.0, "lips": 50.0}
    monkeypatch.setattr(
        Identity,
        "edit",
        lambda self, requests: [memory.work(needs[r.attribute]) or r.photo.clone() for r in requests],
    )
    words = "data=toy data.count=2 data.size=64 data.split=all parser=ground_truth editor=identity strips=0"
    words += " metrics=no_weights runtime.device=cpu runtime.workers=0 runtime.batch_size=1 attributes=[hair,lips]"

    def peaks(name: str, *more: str) -> dict:
        settings = config.typed(compose("evaluate", *words.split(), *more), config.EditingEvaluation)
        assert tasks.start(settings, tmp_path / name) == 0
        table = pd.read_parquet(tmp_path / name / "samples.parquet")
        return table.groupby("attribute")["peak_memory_mib"].apply(list).to_dict()

    assert peaks("first") == {"hair": [1000.0] * 2, "lips": [150.0] * 2}
    assert peaks("second", "attributes=[lips]") == {"lips": [150.0] * 2}  # nothing of the first run's hair


def test_the_counter_of_the_runs_own_device_is_used(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(("reset", device)))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append(("read", device)) or 3 * 2**20)
    second = torch.device("cuda:1")
    reset_peak_memory(second)
    assert peak_memory_mib(second) == 3
    assert asked == [("reset", second), ("read", second)]
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5 * 2**20)
    reset_peak_memory(torch.device("mps"))
    assert peak_memory_mib(torch.device("mps")) == 5


@pytest.mark.skipif(not os.access(peak_memory._CLEAR, os.W_OK), reason="the system resets no peak of a process")
def test_the_peak_of_a_process_can_be_reset():
    cpu, mib = torch.device("cpu"), 64
    reset_peak_memory(cpu)
    before = peak_memory_mib(cpu)
    block = mmap.mmap(-1, mib * 2**20)  # not from the heap, which may hold freed memory of other tests
    block.write(b"x" * len(block))
    grown = peak_memory_mib(cpu)
    block.close()
    reset_peak_memory(cpu)
    # Threads of other tests may hold or free some at the same time: half of the block is margin.
    assert grown > before + mib / 2
    assert peak_memory_mib(cpu) < grown - mib / 2


def test_where_the_system_refuses_the_peak_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "_CLEAR", tmp_path / "no" / "such")
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "none")
    reset_peak_memory(torch.device("cpu"))
    assert peak_memory_mib(torch.device("cpu")) > 0

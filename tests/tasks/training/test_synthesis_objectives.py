"""Batches on their way to the device."""

import torch

from semfacediff.tasks.training.synthesis_objectives import placed


class Batch:
    """Notes what is asked of it, as no accelerator is there to copy to."""

    def __init__(self):
        self.asked = []

    def pin_memory(self):
        self.asked.append("pinned")
        return self

    def to(self, device, **how):
        self.asked.append((device.type, how))
        return self


def test_copies_to_cuda_are_pinned_and_do_not_block():
    batch = Batch()
    assert placed(batch, torch.device("cuda:1")) is batch
    assert batch.asked == ["pinned", ("cuda", {"non_blocking": True})]


def test_other_devices_take_it_as_it_lies():
    batch = Batch()
    placed(batch, torch.device("mps"))
    assert batch.asked == [("mps", {})]
    x = torch.arange(3)
    assert placed(x, torch.device("cpu")) is x

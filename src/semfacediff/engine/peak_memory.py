"""Peak memory since it was last reset: of an accelerator, or of this process where there is none."""

import resource
import sys
from pathlib import Path

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak_memory(device: torch.device) -> None:
    """What was needed before counts no longer; where the system keeps a process's peak for ever, it stays."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        try:
            _CLEAR.write_text("5")  # Linux: sets the peak to what is resident now
        except OSError:
            return


def peak_memory_mib(device: torch.device) -> float:
    """MiB: allocated by torch on a CUDA device; on MPS, which keeps no peak, held by its driver now; else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 2**20
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        kib = float(line.split()[1])
    except (OSError, StopIteration):
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return int(kib) / 1024

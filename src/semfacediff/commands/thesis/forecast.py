"""What the edits of a diffusion pipeline take: what fits a device's memory, and how long the rest of a run will be."""

from collections.abc import Mapping

from tqdm import tqdm

from semfacediff.errors import UserError
from semfacediff.tasks.training.progress_lines import duration

WHOLE_GIB, LOW_GIB = 9.62, 5.09
"""Tensors of SDXL at 1024 px, whole and with ``runtime=low_memory`` (benchmarks/sdxl_memory.py counts them)."""
_CONTEXT_GIB = 0.75
"""Of CUDA's context and the workspaces of its convolutions, about; it comes on top."""
_LOW_BELOW_MIB, _SMALL_MIB = 16_000_000_000 >> 20, 10 * 1024
SAMPLES = 2
"""Photos that the forecast rests on."""


def memory_words(device: Mapping, given: Mapping[str, str]) -> list[str]:
    """Choices that make SDXL fit ``device``, which are said; none where the user chose.

    Args:
        device: of ``devices`` in the facts of ``semfacediff doctor``. given: the user's choices by key.

    Raises:
        UserError: there is no accelerator, or one that is too small.
    """
    if given.get("runtime.device") == "cpu":
        return []
    if device["device"] == "cpu":
        raise UserError(
            "thesis --real: floors and edits need an accelerator, and this machine has none; use one of at least 8 GB, "
            "choose --steps parser,tables, or add runtime.device=cpu, which takes weeks"
        )
    memory = device["memory_mib"]
    if memory is None or memory >= _LOW_BELOW_MIB or "runtime" in given:
        return []
    has, needs = f"{device['name']} has {memory / 1024:.1f} GiB", LOW_GIB + _CONTEXT_GIB
    if memory < needs * 1024 and "runtime.diffusion.quantise" not in given:
        raise UserError(
            f"thesis --real: {has}, SDXL at 1024 px with runtime=low_memory needs about {needs:.1f}; what fits: "
            f"--steps parser,tables, or runtime.diffusion.quantise=int8, which changes results"
        )
    print(
        f"{has}: runtime=low_memory is chosen, which needs about {needs:.1f} instead of {WHOLE_GIB + _CONTEXT_GIB:.1f}"
    )
    if memory < _SMALL_MIB:
        print("what fits here: one edit at a time at 1024 px, nothing else on the device; if it does not, add "
              "runtime.diffusion.quantise=int8 (changes results)")  # fmt: skip
    return ["runtime=low_memory"]


class Forecast:
    """Says, after the edits of the first photos, how long those that are left will take, and how much memory.

    Args:
        first: edits to wait for. left: edits to be made, those included. memory_mib: what the device has, if known.
    """

    def __init__(self, first: int, left: int, memory_mib: int | None):
        self.first, self.left, self.memory_mib = first, left, memory_mib
        self.rows: list[dict] = []

    def heard(self, row: dict) -> None:
        """Take the row of one edit."""
        self.left -= 1
        if len(self.rows) < self.first:
            self.rows.append(row)
            if len(self.rows) == self.first and (said := self.sentence()):
                tqdm.write(said)

    def sentence(self) -> str:
        """The forecast; empty if no edit was made."""
        times, peaks = ([row[key] for row in self.rows if row.get(key)] for key in ("latency_s", "peak_memory_mib"))
        if not times:
            return ""
        each = sum(times) / len(times)
        memory = f"; at most {max(peaks) / 1024:.1f} GiB of memory" if peaks else ""
        memory += f" of {self.memory_mib / 1024:.1f}" if peaks and self.memory_mib else ""
        left = f"{duration(each * self.left)} for the {self.left} that are left"
        return f"forecast: {each:.1f} s an edit, about {left}{memory}"

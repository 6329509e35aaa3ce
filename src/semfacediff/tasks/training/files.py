"""The checkpoints of a training: ``last``, ``best``, and as many earlier epochs as are asked for."""

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.folders import intact_folder, recover, replacing
from semfacediff.parsing.checkpoint import write_synced
from semfacediff.records.mirrored import STEPS
from semfacediff.tasks.training.checks import out_of_memory
from semfacediff.tasks.training.step_log import StepLog
from semfacediff.weight_files import read_pickle_safely, read_safetensors

_EPOCH = re.compile(r"epoch_(\d+)")
_LEFT = re.compile(r"\.(new|old)$")


class TrainingFiles:
    """``folder/checkpoints``; only the main process writes.

    Args:
        keep_last: how many epochs' checkpoints to keep, ``last`` included.
        accelerator: of the training, or the processes where checkpoints are only looked at.
        log_every: optimisation steps between two rows of ``folder/steps.csv``; 0: none.

    Attributes:
        steps: that log.
    """

    def __init__(self, folder: Path, keep_last: int, accelerator: Accelerator | PartialState, log_every: int = 0):
        self.folder, self._keep_last, self.accelerator = folder, keep_last, accelerator
        self.steps = StepLog(folder / STEPS, log_every if log_every and accelerator.is_main_process else 0)

    def path(self, which: str) -> Path:
        """Folder of the checkpoint called ``last``, ``best`` or ``epoch_0007``."""
        return self.folder / "checkpoints" / which

    @property
    def any(self) -> bool:
        """Whether there is a checkpoint to go back to."""
        return intact_folder(self.path("last")) is not None

    def found(self) -> dict | None:
        """State of the last checkpoint with its ``weights``; ``None`` if there is none.

        What a kill left beside the checkpoints is removed first, or put in its place if it is whole.

        Raises:
            UserError: it is damaged.
        """
        if self.accelerator.is_main_process:
            for name in {_LEFT.sub("", f.name) for f in self.path("last").parent.glob("*") if f.is_dir()}:
                recover(self.path(name))
        self.accelerator.wait_for_everyone()
        folder = intact_folder(self.path("last"))
        if folder is None:
            return None
        try:
            weights = read_safetensors(folder / "model.safetensors")
            return {"weights": weights, **read_pickle_safely(folder / "state.pt")}
        except UserError as e:
            raise UserError(
                f"{str(e).rsplit('; ', 1)[0]}; remove the folder {folder} and repeat: the training starts over"
            ) from e

    @contextlib.contextmanager
    def continuing(self, optimiser: Callable[[], torch.optim.Optimizer]) -> Iterator[None]:
        """Around what takes a training's state from :meth:`found`, whose parts may be of any shape.

        Args:
            optimiser: gives the one that the block has restored.

        Raises:
            UserError: the state is not of this training.
        """
        try:
            yield
            for weight, kept in optimiser().state.items():
                if any(isinstance(v, Tensor) and v.ndim and v.shape != weight.shape for v in kept.values()):
                    raise ValueError("the optimiser's averages have another shape than the weights")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as e:
            if isinstance(e, UserError) or out_of_memory(e):
                raise
            folder, reason = self.path("last"), str(e).partition("\n")[0]
            raise UserError(
                f"{folder / 'state.pt'}: not the state of this training ({type(e).__name__}: {reason}); "
                f"remove the folder {folder} and repeat: the training starts over"
            ) from e

    def write(self, which: str, fill: Callable[[Path], None], state: dict | None = None) -> None:
        """Let ``fill`` write a checkpoint into an empty folder; what was there stays whole until the new one is.

        Args:
            state: goes to ``state.pt`` beside the weights.

        Raises:
            UserError: it cannot be written.
        """
        if self.accelerator.is_main_process:
            try:
                with replacing(self.path(which)) as new:
                    fill(new)
                    if state is not None:
                        buffer = io.BytesIO()
                        torch.save(state, buffer)
                        write_synced(new / "state.pt", buffer.getvalue())
            except OSError as e:
                raise UserError(
                    f"cannot write a checkpoint in {self.folder} ({e.strerror}); free space and repeat"
                ) from e
        self.accelerator.wait_for_everyone()

    def refuse_foreign(self, which: str, key: str, expected: int) -> None:
        """Check that a finished run's checkpoint belongs to the run's end.

        A record that was published without its checkpoints is left alone.

        Args:
            key: what the checkpoint's card counts under ``training`` (``steps``, ``epochs``). expected: by the record.

        Raises:
            UserError: it is absent, or of another step or epoch.
        """
        if not self.path(which).parent.is_dir():
            return
        folder = intact_folder(self.path(which))
        try:
            cards = [json.loads(f.read_text("utf-8")) for f in folder.glob("*.json")] if folder else []
            found = next((card["training"].get(key) for card in cards if "training" in card), None)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as e:
            raise UserError(f"{folder}: its card cannot be read ({type(e).__name__}); copy the folder back") from e
        if found != expected:
            what = "absent" if folder is None else f"that of {key} {found}"
            raise UserError(
                f"{self.path(which)}: expected the checkpoint of {key} {expected}, with which the run ended, it is "
                f"{what}; copy the folder back, or train again with hydra.run.dir=DIR"
            )

    def keep_epoch(self, epoch: int) -> None:
        """Keep ``last`` under its epoch's name too, and drop what is older than ``keep_last`` asks for."""
        if not self.accelerator.is_main_process or self._keep_last == 1:
            return
        last = self.path("last")
        with replacing(self.path(f"epoch_{epoch:04d}")) as new:
            shutil.copytree(last, new, copy_function=_linked, dirs_exist_ok=True)
        kept = sorted(f for f in last.parent.iterdir() if _EPOCH.fullmatch(f.name))
        for old in kept[: -self._keep_last]:
            shutil.rmtree(old)


def _linked(source: str, copied: str) -> None:
    """A second name of a file, or a copy where the file system has no such thing."""
    try:
        os.link(source, copied)
    except OSError:
        shutil.copyfile(source, copied)

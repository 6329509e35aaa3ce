"""The checkpoints of a training: ``last``, ``best``, and as many earlier epochs as are asked for."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import nn

from semfacediff.errors import UserError
from semfacediff.folders import recover, replacing, surviving
from semfacediff.parsing.checkpoint import ParserCard, save_parser
from semfacediff.weight_files import read_pickle_safely, read_safetensors

_EPOCH = re.compile(r"epoch_(\d+)")
_LEFT = re.compile(r"\.(new|old)$")


class TrainingFiles:
    """``folder/checkpoints``; only the main process writes.

    Args:
        keep_last: how many epochs' checkpoints to keep, ``last`` included.
    """

    def __init__(self, folder: Path, keep_last: int, accelerator):
        self.folder, self._keep_last, self._accelerator = folder, keep_last, accelerator

    def path(self, which: str) -> Path:
        """Folder of the checkpoint called ``last``, ``best`` or ``epoch_0007``."""
        return self.folder / "checkpoints" / which

    @property
    def any(self) -> bool:
        """Whether there is a checkpoint to go back to."""
        return surviving(self.path("last")) is not None

    def found(self) -> dict | None:
        """State of the last checkpoint with its ``weights``; ``None`` if there is none.

        What a kill left beside the checkpoints is removed first, or put in its place if it is whole.

        Raises:
            UserError: it is damaged.
        """
        if self._accelerator.is_main_process:
            for name in {_LEFT.sub("", f.name) for f in self.path("last").parent.glob("*") if f.is_dir()}:
                recover(self.path(name))
        self._accelerator.wait_for_everyone()
        folder = surviving(self.path("last"))
        if folder is None:
            return None
        try:
            weights = read_safetensors(folder / "model.safetensors")
            return {"weights": weights, **read_pickle_safely(folder / "state.pt")}
        except UserError as e:
            raise UserError(
                f"{str(e).rsplit('; ', 1)[0]}; remove the folder {folder} and repeat: the training starts over"
            ) from e

    def save(self, which: str, model: nn.Module, card: ParserCard, state: dict | None = None) -> None:
        """:meth:`write` a parser."""
        self.write(which, lambda folder: save_parser(model, card, folder, state))

    def write(self, which: str, save: Callable[[Path], None]) -> None:
        """Let ``save`` write a checkpoint; what was there stays whole until the new one is.

        Raises:
            UserError: it cannot be written.
        """
        if self._accelerator.is_main_process:
            try:
                save(self.path(which))
            except OSError as e:
                raise UserError(
                    f"cannot write a checkpoint in {self.folder} ({e.strerror}); free space and repeat"
                ) from e
        self._accelerator.wait_for_everyone()

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
        folder = surviving(self.path(which))
        found = next((n for n in map(lambda f: _counted(f, key), folder.glob("*.json")) if n), None) if folder else None
        if found != expected:
            what = "absent" if folder is None else f"that of {key} {found}"
            raise UserError(
                f"{self.path(which)}: expected the checkpoint of {key} {expected}, with which the run ended, it is "
                f"{what}; copy the folder back, or train again with hydra.run.dir=DIR"
            )

    def keep_epoch(self, epoch: int) -> None:
        """Keep ``last`` under its epoch's name too, and drop what is older than ``keep_last`` asks for."""
        if not self._accelerator.is_main_process or self._keep_last == 1:
            return
        last = self.path("last")
        with replacing(self.path(f"epoch_{epoch:04d}")) as new:
            shutil.copytree(last, new, copy_function=_linked, dirs_exist_ok=True)
        kept = sorted(f for f in last.parent.iterdir() if _EPOCH.fullmatch(f.name))
        for old in kept[: -self._keep_last]:
            shutil.rmtree(old)


def _counted(card: Path, key: str) -> int | None:
    """What a checkpoint's card counts under ``training``; ``None`` if it is damaged or another file."""
    try:
        return json.loads(card.read_text("utf-8"))["training"].get(key)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _linked(source: str, copied: str) -> None:
    """A second name of a file, or a copy where the file system has no such thing."""
    try:
        os.link(source, copied)
    except OSError:
        shutil.copyfile(source, copied)

"""Work shared by the processes of ``torchrun``; the first one keeps the record."""

import atexit
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from semfacediff.engine.devices import check_launch
from semfacediff.errors import UserError
from semfacediff.records.folder import DONE, RunFolder, differences, read_run

_EXIT_MISTAKE = 2
Value = TypeVar("Value")
_LOST_CONNECTION = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


def processes(device: torch.device, followed: Sequence[str] = ()) -> PartialState:
    """The processes of this launch: just this one, if there was no launcher.

    Args:
        device: of this process; CUDA's current device becomes the same, for what asks for "the" device.
        followed: see :func:`semfacediff.engine.devices.check_launch`.

    Raises:
        UserError: the launcher asks for what is not done here, or the processes do not find one another.
    """
    check_launch(followed)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        state = PartialState(cpu=device.type == "cpu")
    except torch.distributed.DistError as e:
        raise UserError(
            f"the processes of this launch do not find one another ({str(e).splitlines()[0]}); start them all with one "
            f"torchrun command"
        ) from e
    state.device = device  # accelerate's own may lack the index
    if state.num_processes > 1:  # torch leaves it to the program; threads of gloo that outlive Python abort the process
        atexit.register(state.destroy_process_group)
    return state


@contextlib.contextmanager
def shared_record(
    state: PartialState, folder: Path, identity: dict, opened: Callable[[], RunFolder]
) -> Iterator[tuple[RunFolder | None, bool]]:
    """(record, finished): the first process holds the record, the others get ``None``; all know whether it is done.

    If the first process refuses, the others end with it. If another one is lost while the block lasts, each says so in
    a sentence; what is on the disk is whole, and the same command continues from there.

    Args:
        identity: what determines the results; the same in every process.

    Raises:
        UserError: the processes differ, the record cannot be opened, or a process was lost.
    """
    with _losing_none(state), contextlib.ExitStack() as stack:
        _check_same(state, {**identity, "folder": str(folder)})
        record, refusal = None, None
        if state.is_main_process:
            try:
                record = stack.enter_context(opened())
            except UserError as e:
                refusal = e
        _end_together(state, refusal)
        yield record, agreed(state, record is not None and read_run(folder)["status"] == DONE)


def _check_same(state: PartialState, identity: dict) -> None:
    if state.num_processes == 1:
        return
    first, *others = gather_object([identity])
    for rank, other in enumerate(others, 1):
        if changed := [d.partition(" was ")[0] for d in differences(first, other)]:
            e = UserError(
                f"process {rank} of this launch differs from process 0 in {', '.join(changed[:4])}; start all with the "
                f"same command, the same files in conf/local and the same data"
            )
            _end_together(state, e if state.is_main_process else None)


def _end_together(state: PartialState, refusal: UserError | None) -> None:
    """Raise the first process's ``refusal`` there, and end the others without a word."""
    refused = agreed(state, refusal is not None)
    if refusal is not None:
        raise refusal
    if refused:
        sys.exit(_EXIT_MISTAKE)


@contextlib.contextmanager
def _losing_none(state: PartialState) -> Iterator[None]:
    """Turn the failure of a collective operation into a sentence."""
    try:
        yield
    except RuntimeError as e:
        lost = isinstance(e, torch.distributed.DistError) or any(sign in str(e) for sign in _LOST_CONNECTION)
        if state.num_processes == 1 or not lost:
            raise
        raise UserError(
            f"process {state.process_index} of this launch lost another one, which ended before it; see what that one "
            f"said (or whether memory ran out), then repeat the command: the run continues where it stopped"
        ) from e


def agreed(state: PartialState, value: Value | None) -> Value:
    """The first process's ``value``, for all of them; the others need have none."""
    shared: list[Any] = [value]
    if state.num_processes > 1:
        with _losing_none(state):
            broadcast_object_list(shared)
    return shared[0]


def joined(n: int, mine: Sequence[int], values: Sequence[float]) -> np.ndarray:
    """float64 ``[n]``, the same in every process: ``values`` of the indices ``mine`` of each, on the host."""
    whole = np.zeros(n)
    for indices, of_one in gather_object([(list(mine), list(values))]):
        whole[indices] = of_one
    return whole


Rows = Callable[[Sequence[int]], Iterator[dict]]
"""Makes the rows of some indices, one by one."""


def in_turn(
    state: PartialState, todo: Sequence[int], rows: Rows, rows_of: Callable[[int], int] = lambda i: 1
) -> Iterator[dict]:
    """Rows of every index in ``todo``; each process makes those of every n-th index, all get all, by turns.

    Args:
        rows_of: how many rows an index has; with one each they come in the order of ``todo``.
    """
    if state.num_processes == 1:
        yield from rows(todo)
        return
    shares = [todo[k :: state.num_processes] for k in range(state.num_processes)]
    mine = rows(shares[state.process_index])
    for _ in range(max(sum(map(rows_of, share)) for share in shares)):
        yield from (row for row in gather_object([next(mine, None)]) if row is not None)

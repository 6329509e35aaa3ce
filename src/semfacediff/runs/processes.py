"""Work shared by the processes of ``torchrun`` or ``accelerate launch``; the first one keeps the record."""

import atexit
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from semfacediff.records.folder import DONE, RunFolder, read_run


def processes(device: torch.device) -> PartialState:
    """The processes of this launch: just this one, if there was no launcher."""
    state = PartialState(cpu=device.type == "cpu")
    if state.num_processes > 1:  # torch leaves it to the program; threads of gloo that outlive Python abort the process
        atexit.register(state.destroy_process_group)
    return state


@contextlib.contextmanager
def shared_record(
    state: PartialState, folder: Path, opened: Callable[[], RunFolder]
) -> Iterator[tuple[RunFolder | None, bool]]:
    """(record, finished): the first process holds the record, the others get ``None``; all know whether it is done."""
    with contextlib.ExitStack() as stack:
        with state.main_process_first():
            record = stack.enter_context(opened()) if state.is_main_process else None
            finished = read_run(folder)["status"] == DONE
        yield record, finished


def agreed(state: PartialState, value):
    """The first process's ``value``, for all of them."""
    if state.num_processes == 1:
        return value
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


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

"""Files of weights, read without running what may be in them. Common ground: parsers and metrics both have some."""

import functools
import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from semfacediff.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_LARGE = 2**20
"""Bytes from which on a digest is remembered: weights, which every job of a sweep asks for, not photos."""
_OF_TORCH = (b"PK\x03\x04", b"\x80")
"""How a zip archive and a pickle begin."""
_SHOWN_BYTES = 12


def shown(path: Path) -> str:
    """Home abbreviated: messages enter records, which should not name a machine's users."""
    try:
        home = Path.home()
    except RuntimeError:  # as in a container with a bare user id
        return str(path)
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def in_home(path: str) -> Path:
    """``path`` with ``~`` expanded; as it is where the user has no home, as in a container with a bare user id."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


class _Inert:
    """In the place of a class in a file; holds what the pickle gives it and does nothing."""


_INERT = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)
"""Classes beside the tensors of files that Lightning wrote: names of its callbacks' states. They are never imported."""


def file_state(path: Path) -> tuple[str, int, int, int] | None:
    """What changes with a file's contents, without reading them; ``None`` if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path.absolute()), found.st_ino, found.st_size, found.st_mtime_ns


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex; that of a large file is remembered until the file changes."""
    state = file_state(path)
    return _read_digest(path) if state is None or state[2] < _LARGE else _known_digest(state)


@functools.lru_cache(maxsize=256)
def _known_digest(state: tuple[str, int, int, int]) -> str:
    return _read_digest(Path(state[0]))


def _read_digest(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fingerprint(*files: Path) -> str:
    """First 16 hex digits over the contents of ``files``, in order; an absent one counts as such."""
    parts = [file_digest(f) if f.is_file() else "absent" for f in files]
    return hashlib.sha256(",".join(parts).encode()).hexdigest()[:16]


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Contents of a weights file: ``.safetensors``, else a pickle of tensors.

    Raises:
        UserError: not there, damaged, or carrying more than tensors.
    """
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickle_safely(path)


def read_safetensors(path: Path) -> Mapping[str, Tensor]:
    """Contents of a ``.safetensors`` file; a :class:`UserError` if it is not there or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise UserError(f"{path}: the weights cannot be read ({e}); copy the file again") from e


def read_pickle_safely(path: Path) -> Mapping[str, Tensor]:
    """Contents of a ``.pt``/``.pth``/``.bin`` file: a dictionary of tensors and plain values.

    Raises:
        UserError: the file carries code, or is not a torch file.
    """
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _INERT]):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        wanted = re.search(r"GLOBAL (\S+)", str(e))
        if wanted:
            raise UserError(
                f"{path}: refused, the pickle carries code or objects ({wanted[1]}), not only tensors; "
                f"convert it to .safetensors as docs/synthesis.md, 'Released weights', says"
            ) from e
        got = f" ({other})" if (other := _other_kind(path)) else ""
        raise UserError(f"{path}: refused, not a pickle of tensors alone{got}; copy or convert the file again") from e
    except Exception as e:  # on damaged bytes the unpickler raises IndexError, KeyError, AssertionError ...
        reason = _other_kind(path) or f"{type(e).__name__} {str(e)[:80]}".splitlines()[0].strip()
        raise UserError(f"{path}: not a readable weights file ({reason}); copy it again") from e
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: expected a dictionary of tensors, got a {type(contents).__name__}")
    return contents


def _other_kind(path: Path) -> str:
    """Of a file that could not be read and never was torch's: what was expected and what it is; else empty."""
    if not path.is_file():
        return ""
    with open(path, "rb") as f:
        head = f.read(_SHOWN_BYTES)
    if head.startswith(_OF_TORCH):
        return ""
    got = f"a file that begins with {repr(head)[1:]}" if head else "an empty file"
    return f"expected what torch.save writes, or .safetensors, got {got}"


def onnx_session(file: Path, needed_by: str, instead: str, damaged: str) -> "InferenceSession":
    """An ONNX file opened by onnxruntime on the CPU, with torch's number of threads.

    Args:
        needed_by, instead: the setting that needs onnxruntime, and the one to do without it, ``key=value`` each.
        damaged: what to do about a file that cannot be opened.

    Raises:
        UserError: onnxruntime is not installed, or it cannot open the file.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise UserError(
            f"{needed_by} needs the package onnxruntime; install it with pip install 'semfacediff[export]', or set "
            f"{instead}"
        ) from e
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's errors have no base of their own
        reason = str(e).splitlines()[0][:120]
        raise UserError(f"{file}: onnxruntime cannot open it ({reason}); {damaged}") from e

"""Where a run computes: one device with its index, chosen by ``runtime.device`` and the launcher together.

Launchers (``torchrun``, ``accelerate launch``) speak to a process through environment variables. What they ask for is
followed, or refused in one sentence; nothing is ignored.
"""

import os
import sys
from collections.abc import Sequence

import torch

from semfacediff import config
from semfacediff.errors import UserError

_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets beside ``WORLD_SIZE``."""
_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""How launchers of MPI say how many processes there are."""
_REPLICATED = "every process holds the whole model here; start with torchrun, or choose --multi_gpu"
_NOT_FOLLOWED = {
    "MIXED_PRECISION": (
        ("no",),
        "mixed precision",
        "trainings follow it; start an evaluation with --mixed_precision no and set parser.precision or editor.dtype",
    ),
    "GRADIENT_ACCUMULATION_STEPS": (
        ("1", "auto"),
        "gradient accumulation",
        "trainings follow it; start an evaluation without it",
    ),
    "DYNAMO_BACKEND": (("no",), "torch.compile", "set train.compile or runtime.diffusion.compile instead"),
    "TORCH_DEVICE": ((), "a device", "set runtime.device instead"),
    "USE_FSDP": (("false",), "FSDP", _REPLICATED),
    "USE_DEEPSPEED": (("false",), "DeepSpeed", _REPLICATED),
    "USE_MEGATRON_LM": (("false",), "Megatron-LM", _REPLICATED),
    "USE_PARALLELISM_CONFIG": (("false",), "sharded parallelism", _REPLICATED),
    "USE_SAGEMAKER": (("false",), "SageMaker", "start with torchrun"),
}
"""Variable of accelerate (less ``ACCELERATE_``) -> (values that ask for nothing, what others ask for, what to do)."""


def choose_device(settings: config.DeviceConfig) -> torch.device:
    """The device that ``runtime.device`` means in this process.

    Under a launcher ``cuda`` is the device of the process's own rank on its machine, else the first one; ``auto`` takes
    CUDA, then MPS, then the CPU (the CPU also where ``accelerate launch --cpu`` says so).

    Whether CUDA may round float32 (``runtime.tf32``) is set here too, so that no run depends on torch's defaults.

    Raises:
        UserError: it is not there, or contradicts what the launcher asks for.
    """
    asked, world = settings.device, _count("WORLD_SIZE")
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")
    if on_cpu and asked not in ("auto", "cpu"):
        raise UserError(f"accelerate asks for the CPU (--cpu), runtime.device={asked} for another; drop one of the two")
    if asked == "cpu" or on_cpu:
        return torch.device("cpu")
    exact_float32(getattr(settings, "tf32", False))
    if asked == "auto":
        mps = torch.backends.mps.is_available() and world == 1
        asked = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
        return choose_device(settings.model_copy(update={"device": asked}))
    if reason := _absent(asked.partition(":")[0]):
        raise UserError(f"runtime.device={asked} is not available here; use runtime.device=auto or cpu ({reason})")
    if asked == "mps":
        if world > 1:
            raise UserError(f"runtime.device=mps works in one process, not in {world}; use runtime.device=cpu")
        return torch.device("mps", 0)
    return torch.device("cuda", _cuda_index(asked, world))


def _cuda_index(asked: str, world: int) -> int:
    n, rank, (_, _, index) = torch.cuda.device_count(), _count("LOCAL_RANK", 0), asked.partition(":")
    if index and world > 1:
        raise UserError(
            f"runtime.device={asked} is one device for all {world} processes of this launch; set runtime.device=cuda: "
            f"each process takes its own"
        )
    if index and int(index) >= n:
        raise UserError(f"runtime.device={asked}: this machine has {n} CUDA device(s), cuda:0 to cuda:{n - 1}")
    if rank >= n:
        raise UserError(
            f"process {rank} of this machine finds {n} CUDA device(s), and each process needs its own; start {n} at "
            f"most (torchrun --nproc-per-node={n})"
        )
    return int(index or rank)


def _absent(kind: str) -> str | None:
    """Why there is no such accelerator; ``None`` if there is one."""
    if kind == "mps":
        if torch.backends.mps.is_available():
            return None
        return "MPS needs a Mac with Apple silicon" if sys.platform != "darwin" else "this torch cannot use MPS"
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} was built without CUDA"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every device"
    return "torch finds no CUDA device; does nvidia-smi?"


def _count(variable: str, default: int = 1) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal():
        raise UserError(f"{variable}: a launcher sets a number here, got {text!r}; unset it")
    return int(text)


def check_launch(followed: Sequence[str] = ()) -> None:
    """Refuse what the launcher asks for and this project does not do, or what it left half done.

    Args:
        followed: variables of accelerate (less ``ACCELERATE_``) that this run follows.

    Raises:
        UserError: what, and what to do instead.
    """
    for name, (harmless, what, instead) in _NOT_FOLLOWED.items():
        value = os.environ.get(f"ACCELERATE_{name}", "")
        if value and value.lower() not in harmless and name not in followed:
            raise UserError(f"accelerate asks for {what} (ACCELERATE_{name}={value}), which is not followed; {instead}")
    by_mpi = any(name in os.environ for name in _MPI)
    absent = [name for name in _NEEDED if name not in os.environ]
    if _count("WORLD_SIZE") > 1 and absent and not by_mpi:
        raise UserError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} asks for several processes, but {', '.join(absent)} is not set: "
            f"start them with torchrun --nproc-per-node={os.environ['WORLD_SIZE']}, or unset WORLD_SIZE"
        )
    # accelerate's launcher for one process sets an address where several were asked for, and starts one nevertheless
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ
    if by_accelerate and "MASTER_ADDR" in os.environ and "LOCAL_RANK" not in os.environ and not by_mpi:
        raise UserError(
            "accelerate launch was asked for several processes and started one, as it does on a CPU or a single "
            "accelerator; start them with torchrun --nproc-per-node=N, or ask for --num_processes 1"
        )


def exact_float32(tf32: bool) -> None:
    """Let CUDA compute float32 products in float32, or (``tf32``) with 10 bits of mantissa, several times as fast.

    torch's own default differs between convolutions and matrix products, so it is set for both.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def wait(on: torch.device) -> None:
    """Until ``on`` has done what it was given: an accelerator works on when a call has returned."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    elif on.type == "mps":
        torch.mps.synchronize()

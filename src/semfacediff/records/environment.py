"""Where and with what a run was made."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from semfacediff import __version__
from semfacediff.threads import allowed_cores

PACKAGES = (
    "accelerate diffusers hydra-core lpips numpy opencv-python-headless pandas pillow pytorch-fid scikit-image "
    "open-clip-torch safetensors torch torchvision transformers"
).split()


@functools.cache  # the code that runs is the one that was imported, whatever is committed during a sweep
def code_version(repository: Path) -> dict[str, str | bool | None]:
    """Package version, commit and whether the checkout has uncommitted changes (``None`` outside a checkout)."""

    def git(*words: str) -> str | None:
        if not (repository / ".git").exists():  # an installation, perhaps within another project's checkout
            return None
        try:
            done = subprocess.run(("git", "-C", str(repository), *words), capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--", ".", ":!results")  # a record beside this one is no change of the code
    return {
        "version": __version__,
        "commit": git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


@functools.cache
def package_versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, object]:
    """Processor, its instruction set as torch uses it, cores, accelerator and threads; no host name."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "cpu_cores": os.cpu_count(),
        "allowed_cores": allowed_cores(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "tf32": torch.backends.cuda.matmul.allow_tf32 if cuda else None,
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
    }

"""The suite as other processors and other numbers of threads compute it: ``make portability``, one line a pass.

What a processor lacks cannot be added, so passes take instructions away: ``default`` leaves SSE, ``avx2`` what is not
AVX-512. ``python tests/portability.py NAME ...`` runs some passes only, ``-- WORDS`` hands words to pytest.
"""

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
NUMERIC = [f"tests/{stage}" for stage in "commands data editing engine metrics parsing regions synthesis tasks".split()]
"""Where numbers are compared; the other folders hold wording, tables and pages."""

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2"}
DEFAULT = {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41"}
if platform.machine() in ("x86_64", "AMD64"):  # beside torch and oneDNN: MKL, OpenBLAS, OpenCV, NumPy
    DEFAULT |= {"MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Nehalem", "OPENCV_CPU_DISABLE": "AVX2,AVX,FP16"}
    DEFAULT["NPY_DISABLE_CPU_FEATURES"] = " ".join(np.show_config("dicts")["SIMD Extensions"]["found"])

PASSES = {
    "default": (DEFAULT, 2, []),
    "avx2": (AVX2, 2, []),
    "1-thread": ({}, 1, NUMERIC),
    "4-threads": ({}, 4, NUMERIC),
}
"""Name -> (environment, threads, what pytest collects; nothing: everything)."""


def passed(name: str, words: list[str]) -> bool:
    """Run one pass and print its line; failures are named below it."""
    environment, threads, collected = PASSES[name]
    set_up = os.environ | environment | {"SEMFACEDIFF_TEST_THREADS": str(threads)}
    command = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "-rfE", *(words or collected)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, env=set_up, capture_output=True, text=True)
    lines = done.stdout.splitlines() or done.stderr.splitlines() or ["nothing was printed"]
    counts = re.sub(r" in [0-9.]+s.*", "", lines[-1])
    print(f"{name} ({threads} threads): {counts}, {time.perf_counter() - start:.0f} s", flush=True)
    for line in lines if done.returncode else []:
        if line.startswith(("FAILED", "ERROR", "E  ")):
            print(f"  {line}")
    return done.returncode == 0


def elsewhere(python: str) -> str:
    """What to do for another Python; a version manager's command may be there without the version."""
    try:
        subprocess.run([python, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not on this machine"
    return f"make portability BASE_PYTHON={python} in a fresh clone"


def main(words: list[str]) -> int:
    """0 if all passes pass."""
    names, further = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    if unknown := set(names) - set(PASSES):
        sys.exit(f"error: unknown pass {', '.join(unknown)}; choose from {', '.join(PASSES)}")
    for version in ("3.11", "3.12", "3.13"):
        own = platform.python_version().startswith(f"{version}.")
        print(f"Python {version}: {'this one' if own else elsewhere(f'python{version}')}", flush=True)
    return int(not all([passed(name, further) for name in names or PASSES]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

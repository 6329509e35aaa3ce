"""Licences and known vulnerabilities of the locked packages: python tests/audit.py PIP_AUDIT

Licences are read from the packages installed here. Exit code 1 if one is refused or unknown, or if a locked version has
a known vulnerability. Where the advisory service cannot be reached this is said, and the licences decide.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-extras.lock")
REFUSED = re.compile(r"\b(A?GPL|GNU (Affero )?General Public|non-?commercial|[\w-]+-NC)\b", re.IGNORECASE)
KNOWN = {"cuda-toolkit": "a package without files, which names NVIDIA's libraries"}
"""Packages whose metadata says nothing."""
UNREACHABLE = re.compile(
    r"ConnectionError|Max retries|ServiceError|HTTPError|Name or service|Temporary failure|timed out"
)


def locked() -> dict[str, str]:
    """Normalised name -> version, of all locks."""
    text = "\n".join((ROOT / lock).read_text() for lock in LOCKS)
    return {name: version for name, version in re.findall(r"^([a-z0-9.-]+)==([^\s;\\]+)", text, re.MULTILINE)}


def licence(distribution: importlib.metadata.Distribution) -> str:
    """The licence of a package: its SPDX expression, else its classifiers, else the first line of its text."""
    facts = distribution.metadata
    classifiers = [c.split(" :: ")[-1] for c in facts.get_all("Classifier", []) if c.startswith("License ::")]
    text = (facts.get("License") or "").strip().partition("\n")[0]
    return facts.get("License-Expression") or "; ".join(classifiers) or text


def licences() -> list[str]:
    """Prints how many packages were read; returns a line for each that is refused."""
    problems, read = [], 0
    for name in locked():
        try:
            said = licence(importlib.metadata.distribution(name))
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system, or of an extra that is not installed
        read += 1
        if REFUSED.search(said):
            problems.append(f"{name}: licence refused: {said}")
        elif not said and name not in KNOWN:
            problems.append(f"{name}: no licence in its metadata; read its files and add it to KNOWN")
    print(f"licences: {read} of {len(locked())} locked packages are installed and read, {len(problems)} refused")
    return problems


def vulnerabilities(pip_audit: str) -> list[str]:
    """Prints how many packages were checked; returns a line for each vulnerability."""
    words = [word for lock in LOCKS for word in ("-r", str(ROOT / lock))]
    command = [pip_audit, "--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        if UNREACHABLE.search(done.stderr):
            print("vulnerabilities: not checked, the advisory service cannot be reached from here")
            return []
        return done.stderr.splitlines()
    packages = json.loads(done.stdout)["dependencies"]
    checked = [p for p in packages if "skip_reason" not in p]
    found = [f"{p['name']} {p['version']}: {v['id']}" for p in checked for v in p["vulns"]]
    without = "; the advisory service has no answer for the others" if len(checked) < len(packages) else ""
    print(f"vulnerabilities: {len(checked)} of {len(packages)} packages checked, {len(found)} found{without}")
    return found


def main() -> int:
    problems = licences() + vulnerabilities(sys.argv[1])
    print("\n".join(problems) if problems else "nothing refused")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())

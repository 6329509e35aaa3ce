"""The locks name every dependency once, with hashes and without addresses, in versions that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {"requirements.lock": ["dev"], "requirements-extras.lock": list(PROJECT["optional-dependencies"])}


def locked(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text()
    blocks = [b for b in re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines() if b]
    assert all(
        re.fullmatch(r"[^ ]+==[^ ]+( ;[^-]*)?( +--hash=sha256:[0-9a-f]{64})+", block.strip()) for block in blocks
    )
    pairs = [re.match(r"([a-z0-9.-]+)==([^ ;]+)", block).groups() for block in blocks]
    assert len(dict(pairs)) == len(pairs), "every package has one version"
    return dict(pairs)


def asked(extra: str | None) -> list[Requirement]:
    words = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, words):
        if requirement.name == PROJECT["name"]:
            yield from (r for more in requirement.extras for r in asked(more))
        else:
            yield requirement


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_dependency_in_an_allowed_version(name):
    text, versions = (ROOT / name).read_text(), locked(name)
    assert "://" not in text, "no address of an index"
    assert not re.search(r"(?<![\w.])/\w", text), "no path of a machine"
    for requirement in (r for extra in (None, *LOCKS[name]) for r in asked(extra)):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


def test_both_locks_agree():
    core, all_extras = map(locked, LOCKS)
    assert {name: all_extras.get(name) for name in core} == core
    assert "hatchling" in core, "the project itself is built without another environment"

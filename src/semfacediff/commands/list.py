"""``semfacediff list``: editors, metrics, parsers and data to choose from, with their origin; presets; tables."""

import argparse
import json

from semfacediff.commands.arguments import add_json

HELP = "list editors, metrics, parsers or data sets that can be chosen here with their origin, experiments, or tables"
_KINDS = {"editors": "editor", "metrics": "metric", "parsers": "parser", "data": "data"}
_DESCRIBED = {"experiments": "experiment", "tables": "tables"}
"""What has a sentence in its file instead of an origin -> its folder below ``experiments/``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=[*_KINDS, *_DESCRIBED])
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    described, kind = _DESCRIBED.get(arguments.what), _KINDS.get(arguments.what, "")
    found = _descriptions(described) if described else _origins(kind)
    if arguments.json:
        print(json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False))
        return 0
    _print(found)
    if described:
        return 0
    targets = "metrics.columns=[module:Class]" if kind == "metric" else f"{kind}=python {kind}.target=module:Class"
    print(f"and any class: {targets}")
    return 0


def _print(found: dict[str, str]) -> None:
    width = max(map(len, found))
    for name in sorted(found):
        print(f"{name:<{width}}  {found[name]}")


def _descriptions(folder: str) -> dict[str, str]:
    """Preset or table -> the first sentence of its file's opening comment, or its title."""
    import re
    from pathlib import Path

    from semfacediff.places import repository

    found = {}
    for place in (repository() / "experiments" / folder, Path("experiments") / folder):
        for file in place.rglob("*.yaml"):
            text = file.read_text("utf-8")
            said = re.search(r"^title: *\"?([^\"\n]+)", text, re.MULTILINE) or re.search(
                r"^# (?!@)(.+)", text, re.MULTILINE
            )
            found[file.relative_to(place).with_suffix("").as_posix()] = said[1].rstrip(".:") if said else ""
    return found


def _origins(kind: str) -> dict[str, str]:
    """Name -> origin; nothing is imported."""
    from pathlib import Path

    from semfacediff.places import repository
    from semfacediff.plugins import installed, origin, ours

    def choices(conf: Path) -> list[str]:
        return [file.stem for file in (conf / kind).glob("*.yaml") if file.stem != "python"]

    names = ours("metric") if kind == "metric" else choices(repository() / "conf")
    found = dict.fromkeys(names, "semfacediff")
    for name in choices(Path("conf")):
        found.setdefault(name, "conf/ of this folder")
    for entry in installed(kind):
        twin = found.get(entry.name)
        found[entry.name] = f"{twin} and {origin(entry)}: uninstall one" if twin else origin(entry)
    return found

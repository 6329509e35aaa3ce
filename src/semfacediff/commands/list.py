"""``semfacediff list``: the editors, metrics, parsers or data sets that can be chosen here, and where each is from."""

import argparse

HELP = "list editors, metrics, parsers or data sets that can be chosen here, with their origin"
_KINDS = {"editors": "editor", "metrics": "metric", "parsers": "parser", "data": "data"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=list(_KINDS))


def run(arguments: argparse.Namespace) -> int:
    kind = _KINDS[arguments.what]
    origins = _origins(kind)
    width = max(map(len, origins))
    for name in sorted(origins):
        print(f"{name:<{width}}  {origins[name]}")
    targets = "metrics.columns=[module:Class]" if kind == "metric" else f"{kind}=python {kind}.target=module:Class"
    print(f"and any class: {targets}")
    return 0


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

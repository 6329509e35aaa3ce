"""What runs are called on the page: what ran, in words, instead of folders and digests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from semfacediff.report.reading import EDITING, SYNTHESIS, TRAINING, TRAININGS, Record
from semfacediff.tables.ablation import named_today, spelt
from semfacediff.tables.labels import parameter_labels

_LONGEST = 90
"""Characters of a name; a run that needs more is called by its id."""
_LISTED = 6
"""Values of a setting that the title lists."""
_GROUPS = ("editor", "parser", "data")
"""Groups whose ``name`` stands for their other keys, where it tells the runs apart."""


def flat(config: Mapping, prefix: str = "") -> dict[str, object]:
    """Dotted key -> leaf of a nested mapping."""
    out: dict[str, object] = {}
    for key, value in config.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def said(value: object) -> str:
    """A value of the configuration as the page prints it."""
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else spelt(value)


def named(records: Sequence[Record]) -> list[Record]:
    """``records`` with what distinguishes them as ``id``: of several of one task the settings, else what ran on what.

    Runs that differ in one number are ordered by it.
    """
    found: list[Record] = []
    tasks = list(dict.fromkeys(r.task for r in records))
    groups = [_ordered([r for r in records if r.task == task]) for task in tasks]
    for record in (r for group in groups for r in group):
        group = [r for r in records if r.task == record.task]
        name = _setting(record, group) or f"{_who(record)} on {photos(record)}"
        name = name if len(name) <= _LONGEST else record.id
        same = sum(r.id.partition(" (#")[0] == name for r in found)
        found.append(replace(record, id=f"{name} (#{same + 1})" if same else name))
    return found


def _ordered(group: list[Record]) -> list[Record]:
    found = varied(group)
    given = [next(iter(own.values())) for own in found if len(own) == 1]
    values = [v for v in given if isinstance(v, int | float)]
    if len(values) < len(group):
        return group
    return [r for _, r in sorted(zip(values, group, strict=True), key=lambda pair: pair[0])]


def title(records: Sequence[Record]) -> str:
    """What ran, in words, over all runs of the page."""
    return "; ".join(_title([r for r in records if r.task == task]) for task in dict.fromkeys(r.task for r in records))


def _title(group: Sequence[Record]) -> str:
    """Of the runs of one task."""
    keys, everyone = _distinct(group), list(dict.fromkeys(map(_who, group)))
    of = photos(max(group, key=lambda r: len(r.samples)))
    what = f"{everyone[0]} on {of}" if len(everyone) == 1 else of
    if len(group) == 1:
        return what
    values = list(dict.fromkeys(_value(r, keys[0]) for r in group)) if keys else []
    if len(keys) == 1 and len(values) <= _LISTED:
        listed = ", ".join(values)
        if keys == ("data.name",) and len(everyone) == 1:
            return f"{everyone[0]} on {listed}"
        return f"{listed} on {of}" if keys[0].endswith(".name") else f"{what}: {labels(keys)[0]} {listed}"
    by = f", by {', '.join(labels(keys))}" if 0 < len(keys) <= _LISTED else ""
    return f"{len(group)} runs of {what}{by}"


def _who(record: Record) -> str:
    """Editor, parser or generator."""
    key = {EDITING: "editor", SYNTHESIS: "generation"}.get(record.task, "parser")
    names = [of.get("name") for of in (record.run.get(key), record.config.get(key)) if isinstance(of, dict)]
    if record.task in TRAININGS:
        return f"training of {next(filter(None, names), 'a parser' if record.task == TRAINING else 'SCA-DM')}"
    return str(next(filter(None, names), record.task))


def photos(record: Record) -> str:
    """How many photos of which data set: ``24 drawn faces``, ``100 photos of shards (val)``."""
    n = record.samples["sample_id"].nunique() if "sample_id" in record.samples else 0
    data = record.config.get("data")
    data = data if isinstance(data, dict) else {}
    what = "drawn faces" if record.drawn else f"photos of {data.get('name') or 'unknown data'}"
    split = data.get("split")
    part = f" ({split})" if split and split != "all" and not record.drawn else ""
    return f"{n} {what}{part}" if n else what + part


def varied(records: Sequence[Record]) -> list[dict[str, object]]:
    """For every run the leaves of its configuration that are not the same in all of them, by dotted key."""
    leaves = [_leaves(r) for r in records]
    keys = sorted({k for own in leaves for k in own})
    kept = [k for k in keys if len({repr(own.get(k)) for own in leaves}) > 1]
    return [{k: own.get(k) for k in kept} for own in leaves]


def _leaves(record: Record) -> dict[str, object]:
    """The configuration by dotted key, and the parser's weights, which it does not contain."""
    digest = record.run["identity"].get("inputs", {}).get("parser")
    return flat(named_today(record.config)) | ({"parser (weights)": str(digest)[:8]} if digest else {})


def _distinct(group: Sequence[Record]) -> tuple[str, ...]:
    """The keys in which runs of one task differ; a ``name`` that tells all of them apart stands for its group."""
    found = varied(group)
    keys = list(found[0]) if found else []
    for of in _GROUPS:
        name = f"{of}.name"
        if name in keys and len({repr(own[name]) for own in found}) == len(found):
            keys = [k for k in keys if k == name or not k.startswith((f"{of}.", f"{of} "))]
    return tuple(keys)


def _setting(record: Record, group: Sequence[Record]) -> str:
    """The settings of one of several runs: ``feather sigma (px) 7``; empty if nothing differs."""
    keys = _distinct(group)
    pairs = zip(keys, labels(keys), strict=True)
    return ", ".join(_value(record, k) if k.endswith(".name") else f"{label} {_value(record, k)}" for k, label in pairs)


def _value(record: Record, key: str) -> str:
    """A setting of a run; its data set with the number of photos."""
    return photos(record) if key == "data.name" else said(_leaves(record).get(key))


def labels(keys: Sequence[str]) -> tuple[str, ...]:
    """Keys of the configuration in words; a group's ``name`` is called like the group."""
    pairs = zip(keys, parameter_labels(keys), strict=True)
    return tuple(key.removesuffix(".name") if key.endswith(".name") else label for key, label in pairs)

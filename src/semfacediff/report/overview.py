"""Facts of a run, and the command that repeats it."""

import json
from dataclasses import dataclass

from semfacediff.errors import UserError
from semfacediff.report.reading import EDITING, SYNTHESIS, TRAININGS, Record
from semfacediff.tables.text import run_notes, synthesis_notes, task_set

_SHORT = 12
_DATA_RIGHTS = {
    "toy": "Drawn faces, no photos of people.",
    "celebamask_hq": (
        "Photos of CelebA-HQ, label maps of CelebAMask-HQ: for non-commercial research only; do not publish this page."
    ),
}
_UNKNOWN_RIGHTS = (
    "The record does not name the source of these photos. Photos of CelebA-HQ and CelebAMask-HQ are for non-commercial "
    "research only; show other photos only as their licence allows."
)


@dataclass(frozen=True)
class Overview:
    """One run. ``facts`` and ``prompts`` are (name, text) pairs; ``alerts`` are shown before any number.

    ``id``: what the page calls it. ``run_id``: its name in the record.
    """

    id: str
    run_id: str
    status: str
    task: str
    alerts: list[str]
    missing: list[str]
    notes: list[str]
    facts: list[tuple[str, str]]
    prompts: list[tuple[str, str, str]]
    metrics: list[tuple[str, str]]
    packages: str
    config_text: str | None
    command: str


def overview(record: Record) -> Overview:
    """Facts of a run as texts; missing facts are omitted."""
    run, config = record.run, record.config
    alerts = [f"Not comparable: {reason}" for reason in run.get("not_comparable") or []]
    if record.doubts[len(alerts) :]:
        alerts.append(f"Unfinished: the status is {run['status']}; repeat its command to continue it")
    return Overview(
        id=record.id,
        run_id=str(run.get("run_id") or record.folder.name),
        status=str(run["status"]),
        task=record.task,
        alerts=alerts,
        missing=record.missing,
        notes=_notes(record),
        facts=[(name, text) for name, text in _facts(record) if text],
        prompts=_prompts(run, config) if record.task == EDITING else [],
        metrics=[
            (str(m.get("metric")), _json({k: v for k, v in m.items() if k != "metric"}))
            for m in run.get("metrics") or []
        ],
        packages=", ".join(f"{name} {version}" for name, version in (run.get("packages") or {}).items()),
        config_text=record.config_text,
        command=str(run.get("command") or ""),
    )


def needs_weights(why: str) -> bool:
    """Whether a column is empty because weights are missing, by the reason in the record."""
    return str(why).startswith("weights.")


def data_rights(record: Record) -> str:
    """Source and permitted use of a run's photos."""
    return _DATA_RIGHTS.get(_named(record.config.get("data")), _UNKNOWN_RIGHTS)


def _notes(record: Record) -> list[str]:
    """Notes of the tables without those in the alerts and those about weights, which the page states once."""
    try:
        empty = {c: why for c, why in (record.run.get("empty_columns") or {}).items() if not needs_weights(why)}
        said = run_notes({"not_comparable": [], "data": {}} | record.run | {"empty_columns": empty})
        # The notes about scores need at least one score.
        said += synthesis_notes(record.run) if record.task == SYNTHESIS and "n" in record.run else []
    except (UserError, KeyError, TypeError, AttributeError) as e:
        return [f"the notes in run.json cannot be read ({type(e).__name__})"]
    said = [note for note in said if not note.startswith(("not comparable: ", "status "))]
    deviations = record.run.get("protocol_deviations") or []
    return said + ([f"deviates from its protocol: {'; '.join(map(str, deviations))}"] if deviations else [])


def _facts(record: Record) -> list[tuple[str, str]]:
    run, config = record.run, record.config
    code, hardware, inputs = (
        _mapping(x) for x in (run.get("code"), run.get("hardware"), run["identity"].get("inputs"))
    )
    parser, editor = (_mapping(run.get(key) or config.get(key)) for key in ("parser", "editor"))
    data, weights = _mapping(config.get("data")), parser.get("digest")
    dirty = ", with uncommitted changes" if code.get("dirty") else ""
    devices = ", ".join(map(str, hardware.get("accelerators") or [])) or f"{hardware.get('cpu_cores', '?')} CPU cores"
    machine = (
        f"{hardware.get('machine', '')} {hardware.get('system', '')}, {devices}, Python {hardware.get('python', '?')}"
    )
    seconds = run.get("wall_time_s")
    return [
        ("Task", record.task),
        ("Protocol", str(config.get("protocol") or "")),
        ("Samples", f"{run.get('n', '?')} of {run.get('n_expected', '?')}" if record.task not in TRAININGS else ""),
        ("Data", _data_text(data)),
        ("Data digest", str(inputs.get("data") or "")[:_SHORT]),
        ("Parser", _named(parser) + (f", weights {str(weights)[:_SHORT]}" if weights else "")),
        ("Editor", _json({k: v for k, v in _mapping(config.get("editor")).items()}) if record.task == EDITING else ""),
        ("Task set", task_set(run)),
        ("Editor's weights", str(editor.get("digest") or "")[:_SHORT]),
        *(_generation(run, config) if record.task == SYNTHESIS else []),
        ("Region", _json(config["region"]) if isinstance(config.get("region"), dict) else ""),
        ("Composite", str(config.get("composite") or "")),
        ("Working size", f"{config['working_size']} px" if config.get("working_size") else ""),
        ("Seed", str(run.get("seed", ""))),
        ("Configuration", str(run.get("config_digest") or "")[:_SHORT]),
        ("Code", f"version {code.get('version')}, commit {str(code.get('commit'))[:_SHORT]}{dirty}" if code else ""),
        ("Machine", machine if hardware else ""),
        ("Started", str(run.get("started") or "")),
        ("Finished", str(run.get("finished") or "")),
        ("Wall time", f"{seconds:.1f} s" if isinstance(seconds, int | float) else ""),
    ]


def _generation(run: dict, config: dict) -> list[tuple[str, str]]:
    made, asked = _mapping(run.get("generation")), _mapping(config.get("generation"))
    names = ("steps", "sampler", "eta", "spacing", "guidance", "guidance_form")
    size = _mapping(run.get("measured")).get("resolution_px")
    return [
        ("Generator", f"{_named(made)}, weights {str(made.get('digest'))[:_SHORT]}" if made else ""),
        ("Sampling", _json({name: asked[name] for name in names if asked.get(name) is not None})),
        ("Size", f"{size} px" if size else ""),
    ]


def _data_text(data: dict) -> str:
    kept = {k: data[k] for k in ("split", "n", "count", "size", "subset") if data.get(k) is not None}
    return f"{_named(data)}: {', '.join(f'{k} {v}' for k, v in kept.items())}" if data else ""


def _prompts(run: dict, config: dict) -> list[tuple[str, str, str]]:
    """(attribute, prompt, source)."""
    prompts = [_mapping(p) for p in run.get("prompts") or []]
    if prompts:
        return [
            (str(p.get("attribute", "")), str(p.get("prompt", "")), str(p.get("prompt_source", ""))) for p in prompts
        ]
    asked = config.get("attributes") or []
    return [(str(a), str(_mapping(config.get("prompts")).get(a, "")), "") for a in asked]


def _mapping(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _named(value: object) -> str:
    return str(_mapping(value).get("name") or "")


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text[1:-1].replace('"', "") if text.startswith("{") else text

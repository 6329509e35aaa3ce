"""``semfacediff doctor``: what this machine has, and what each command needs. Downloads and changes nothing."""

import importlib.util
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from semfacediff.commands.fetch.weights import HUB_PARSERS, of_public
from semfacediff.config import repository, results
from semfacediff.data.celebamask_layout import ATTRIBUTES, MAPPING, PARTITION, PARTS, PHOTOS, POSE
from semfacediff.data.files import PHOTO_SUFFIXES
from semfacediff.downloads import fetch_line
from semfacediff.errors import UserError
from semfacediff.folders import intact_folder
from semfacediff.hub import cached_place
from semfacediff.metrics.weights import CLIP_MODEL, LPIPS_SQUEEZE, PUBLIC, PublicWeights
from semfacediff.parsing.checkpoint import ONNX, WEIGHTS, checkpoint_digest, read_card, resolve
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.exporting import PACKAGES
from semfacediff.parsing.named_file import read_name
from semfacediff.parsing.public import PUBLIC_PARSERS
from semfacediff.parsing.segformer_folder import WEIGHT_FILES
from semfacediff.records.environment import hardware, package_versions
from semfacediff.tables.definitions import definitions
from semfacediff.threads import allowed_cores
from semfacediff.weight_files import file_digest, shown

DATA, LABELLED, OFFICIAL, PARSER, RECORDS, WANDB, EXPORT, PIPELINE = (
    "data",
    "labelled data",
    "official data",
    "parser",
    "records",
    "wandb",
    "export",
    "pipeline",
)


@dataclass(frozen=True)
class Command:
    """What a command needs.

    Attributes:
        inputs: description. needs: requirements that are checked. weights: of metrics.
        way_out: alternative if weights are missing.
    """

    inputs: str
    needs: tuple[str, ...] = ()
    weights: tuple[PublicWeights, ...] = ()
    way_out: str = ""


COMMANDS = {
    "make demo": Command("nothing: drawn faces, columns of absent weights stay empty"),
    "train_parser.py": Command("labelled data (data.root or SEMFACEDIFF_DATA), or data=toy", (LABELLED,)),
    "train_synthesis.py": Command("labelled data, or data=toy; a first stage, which stage=first makes", (LABELLED,)),
    "evaluate.py task=synthesis": Command("labelled data, a parser, synthesis.checkpoint", (LABELLED, PARSER)),
    "evaluate.py task=parsing": Command("labelled data, parser.checkpoint", (LABELLED, PARSER)),
    "evaluate.py metrics=no_weights": Command("data, a parser, an editor (recolor needs no weights)", (DATA, PARSER)),
    "evaluate.py metrics=full": Command(
        "data, a parser, an editor",
        (DATA, PARSER),
        tuple(w for w in PUBLIC if w is not LPIPS_SQUEEZE),
        "or metrics.on_missing=skip",
    ),
    "evaluate.py protocol=pie": Command(
        "data, a parser, an editor", (DATA, PARSER), (LPIPS_SQUEEZE,), "or metrics=no_weights"
    ),
    "semfacediff prepare": Command("the official folder of CelebAMask-HQ", (OFFICIAL,)),
    "semfacediff parse": Command("photos, a parser (--checkpoint)", (PARSER,)),
    "evaluate.py editor=sdxl_inpaint": Command(
        "data, a parser, the editor's pipeline, an accelerator (8 GiB with runtime=low_memory, docs/diffusion.md)",
        (DATA, PARSER, PIPELINE),
    ),
    "semfacediff edit": Command("photos, a parser (--parser), the pipeline of sdxl_inpaint", (PARSER, PIPELINE)),
    "semfacediff edit --editor recolor": Command("photos, a parser (--parser)", (PARSER,)),
    "semfacediff export --to onnx": Command("a parser (RUN), onnx, onnxscript, onnxruntime", (PARSER, EXPORT)),
    "semfacediff tables": Command("the records in results/runs", (RECORDS,)),
    "semfacediff track sync": Command("a run, the package wandb", (WANDB,)),
}
HOW = {
    DATA: "no photos at SEMFACEDIFF_DATA; set it, or name another folder with --data",
    LABELLED: "no photos with labels at SEMFACEDIFF_DATA; set it, or data=toy",
    OFFICIAL: f"no {PHOTOS}/ and {PARTS}/ at SEMFACEDIFF_DATA; name their folder",
    PARSER: "no trained parser; make one with train_parser.py, or name one with --checkpoint",
    RECORDS: "runs that a table needs are missing (above)",
    WANDB: "the package wandb is not installed",
    PIPELINE: "no pipeline of sdxl_inpaint (above)",
    EXPORT: "packages are missing: pip install 'semfacediff[export]'",
}


def doctor(root: str | None, as_json: bool, data: str | None = None, checkpoint: str | None = None) -> int:
    """Print what is available; always returns 0: missing parts are not errors.

    Args:
        root: ``weights.root`` of planned runs. data: ``data.root``. checkpoint: ``parser.checkpoint``.
    """
    found = examined(root, data, checkpoint)
    print(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))
    return 0


def make_twins(folder: Path) -> int:
    """Write tiny pipelines with random weights, to test the editors without a download."""
    from semfacediff.editing.diffusion.tiny import SIZE, make_tiny

    for made in make_tiny(folder):
        print(made)
    words = f"editor=sdxl_inpaint weights.root={folder} editor.native_size={SIZE}"
    print(f"their edits are noise; try: evaluate.py {words}")
    return 0


def examined(root: str | None, data: str | None = None, checkpoint: str | None = None) -> dict:
    """All facts about this machine; sizes in bytes, memory in MiB."""
    place = data or os.environ.get("SEMFACEDIFF_DATA")
    public = of_public(root)
    weights = public["weights"]
    facts = {
        "hardware": hardware() | {"memory_mib": _memory_mib(), "free_disk_mib": shutil.disk_usage(".").free >> 20},
        "devices": _devices(),
        "packages": package_versions(),
        "data": {"SEMFACEDIFF_DATA": os.environ.get("SEMFACEDIFF_DATA"), **_data(place)},
        "parsers": _parsers(checkpoint),
        "published_parsers": {name: _published(name) for name in PUBLIC_PARSERS},
        "records": _records(),
        **public,
    }
    there = presence(facts)
    facts["commands"] = {
        name: {
            "inputs": command.inputs,
            "missing": [need for need in command.needs if not there[need]],
            "missing_weights": [w.key for w in command.weights if weights[w.key]["state"] == "missing"],
            "other_weights": [w.key for w in command.weights if weights[w.key]["state"] == "another file"],
        }
        for name, command in COMMANDS.items()
    }
    return facts


def presence(facts: dict) -> dict[str, bool]:
    """Whether each requirement is met, from the facts of :func:`examined`."""
    data = facts["data"]
    return {
        DATA: data["photos"] > 0,
        LABELLED: data["photos"] > 0 and data["labels"],
        OFFICIAL: data["layout"] == "celebamask_hq" and data["labels"],
        PARSER: any(parser["error"] is None for parser in facts["parsers"]),
        RECORDS: bool(facts["records"]["measured"]),
        WANDB: importlib.util.find_spec("wandb") is not None,
        PIPELINE: facts["pipelines"]["sdxl_inpaint"]["place"] is not None,
        EXPORT: all(importlib.util.find_spec(name) is not None for name in PACKAGES),
    }


def _data(place: str | None) -> dict:
    """Facts about a data folder from file names alone: layout, photos (tars of shards), labels, absent lists."""
    facts: dict[str, object]
    facts = {"place": place, "there": False, "layout": None, "photos": 0, "labels": False, "absent": []}
    if place is None or not (root := Path(place).expanduser()).is_dir():
        return facts
    facts["there"] = True
    if (root / PHOTOS).is_dir():
        lists = [name for name in (MAPPING, PARTITION, ATTRIBUTES, POSE) if not (root / name).exists()]
        facts |= {"layout": "celebamask_hq", "photos": _count(root / PHOTOS, (".jpg", ".jpeg")), "absent": lists}
        return facts | {"labels": (root / PARTS).is_dir()}
    if (root / "images").is_dir():
        photos = _count(root / "images", PHOTO_SUFFIXES)
        return facts | {"layout": "folder", "photos": photos, "labels": (root / "masks").is_dir()}
    if tars := _count(root, (".tar",)):
        return facts | {"layout": "shards", "photos": tars, "labels": True}
    return facts


def _count(folder: Path, suffixes: tuple[str, ...]) -> int:
    return sum(name.lower().endswith(suffixes) and not name.startswith(".") for name in os.listdir(folder))


def _parsers(checkpoint: str | None) -> list[dict]:
    """Trained parsers: the named one, otherwise the shipped one and those of the runs in this checkout.

    Parsers of runs are not hashed.
    """
    if checkpoint is not None:
        return [_parser(Path(checkpoint).expanduser(), hashed=True)]
    shipped = default_parser()
    places = ("outputs/train_parser/*", "outputs/demo/parser", "results/runs/*")
    runs = (run for place in places for run in sorted(results(repository()).parent.glob(place)))
    found = [_parser(run, hashed=False) for run in runs if intact_folder(run / "checkpoints" / "best")]
    return ([_parser(shipped, hashed=True) | {"shipped": True}] if shipped else []) + found


def _parser(place: Path, hashed: bool) -> dict:
    """Facts of one parser; ``error`` says why it cannot be used."""
    names = ("name", "label_space", "input_size", "digest", "error")
    facts: dict[str, object] = {"place": str(place), **dict.fromkeys(names), "shipped": False}
    try:
        folder = resolve(place)
        if folder.is_file():
            said = read_name(folder)
            name = said.name or "(a bare weights file: parser=NAME says which)"
            known = {"name": name, "label_space": said.label_space, "input_size": said.input_size}
            return facts | known | {"digest": file_digest(folder)}
        card = read_card(folder)
        weights = next((f for f in (*WEIGHT_FILES, ONNX) if (folder / f).is_file()), None)
        if weights is None:
            raise UserError(f"{folder}: {WEIGHTS} is missing; copy the folder again")
        digest = checkpoint_digest(folder, weights) if hashed else None
    except UserError as e:
        return facts | {"error": str(e)}
    facts |= {"backend": "onnx" if weights == ONNX else "torch"}
    known = {"name": card.name, "label_space": card.label_space, "input_size": card.input_size}
    return facts | known | {"digest": digest}


def _published(name: str) -> dict:
    """A published parser: its path in the hub's cache (``None``: missing or incomplete) and how to get it."""
    known = PUBLIC_PARSERS[name]
    try:
        place, error = resolve(known.id), None
        if place.is_dir():
            read_card(place)  # checks its weights, too
    except UserError as e:
        place, error = None, str(e)
    facts = {"id": known.id, "what": known.what, "size": known.size, "place": place and str(place)}
    facts["on_request"] = known.on_request
    return (
        facts
        | {"fetch": fetch_line(known.id)}
        | ({"error": error} if error and cached_place(known.id) else {"error": None})
    )


def _records() -> dict:
    """Tables that can be rendered, those of them made from runs, and run -> command for missing runs."""
    there, measured = [], []
    missing: dict[str, str] = {}
    for name, table in definitions(repository()).items():
        absent = table.missing(repository())
        missing |= dict.fromkeys(absent, table.command)
        there += [] if absent else [name]
        measured += [name] if not absent and table.needed else []
    return {"tables": there, "measured": measured, "missing": missing}


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (ValueError, OSError):
        return None


def _devices() -> list[dict]:
    """Accelerators and the CPU, best first: what ``runtime.device=auto`` chooses from."""
    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    found = [
        {"device": f"cuda:{i}", "name": p.name, "memory_mib": p.total_memory >> 20}
        for i in cuda
        for p in [torch.cuda.get_device_properties(i)]
    ]
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "memory_mib": None})
    return [*found, {"device": "cpu", "name": f"{allowed_cores()} cores", "memory_mib": _memory_mib()}]


def _lines(found: dict) -> list[str]:
    machine = found["hardware"]
    lines = [
        f"Python {machine['python']} ({sys.executable}), {machine['system']} {machine['machine']}",
        f"free disk here: {machine['free_disk_mib'] / 1024:.1f} GiB",
        "devices (runtime.device=auto takes the first):",
        *(f"  {d['device']}: {d['name']}, {_gib(d['memory_mib'])}" for d in found["devices"]),
        "packages: " + ", ".join(f"{name} {version}" for name, version in found["packages"].items()),
        f"data: {_about_data(found['data'])}",
        "trained parsers:" + ("" if found["parsers"] else " none here"),
        *(f"  {_about_parser(parser)}" for parser in found["parsers"]),
        "published parsers (parser.checkpoint=ID):",
        *(f"  {line}" for line in _about_published(found["published_parsers"].values())),
        f"tables from records: {', '.join(found['records']['tables']) or 'none'}",
        *(f"  run {run} is missing; make it with: {how}" for run, how in found["records"]["missing"].items()),
        "weights of the metrics:",
    ]
    for key, w in found["weights"].items():
        lines += _about(key, w)
    lines.append("pipelines of the diffusion editors:")
    for editor, pipeline in found["pipelines"].items():
        lines.append(f"  {editor}: {_about_pipeline(pipeline)}")
    lines.append("starts of trainings (parser.pretrained=ID):")
    for id_, parser in found["public_parsers"].items():
        if id_ not in {p.id for p in PUBLIC_PARSERS.values()}:
            lines.append(f"  {id_} ({HUB_PARSERS[id_]}): {_about_pipeline(parser)}")
    lines.append("what each command would need:")
    for name, command in found["commands"].items():
        faults = [HOW[need] for need in command["missing"]]
        if command["missing_weights"]:
            faults.append(f"missing weights: {', '.join(command['missing_weights'])} ({COMMANDS[name].way_out})")
        state = "; ".join(faults) or ("ready" if COMMANDS[name].needs else "")
        lines.append(f"  {name}: {'; '.join(filter(None, (command['inputs'], state)))}")
    return lines


def _about_data(data: dict) -> str:
    if data["place"] is None:
        return "SEMFACEDIFF_DATA is not set"
    place = shown(Path(data["place"]))
    if not data["there"]:
        return f"{place} (no such folder)"
    if data["layout"] is None:
        return f"{place} (no layout that is known: neither {PHOTOS}/, nor images/, nor tars)"
    unit = "tars" if data["layout"] == "shards" else "photos"
    labels = "" if data["labels"] else ", no labels"
    absent = f", without {', '.join(data['absent'])}" if data["absent"] else ""
    return f"{place}: data={data['layout']}, {data['photos']} {unit}{labels}{absent}"


def _about_parser(parser: dict) -> str:
    place = shown(Path(parser["place"]))
    if parser["error"]:
        return f"{place}: unusable: {parser['error']}"
    size = f", {parser['input_size']} px, label space {parser['label_space']}" if parser["input_size"] else ""
    digest = f", SHA-256 {parser['digest'][:8]}..." if parser["digest"] else ""
    backend = ", parser.backend=onnx" if parser.get("backend") == "onnx" else ""
    shipped = " (ships with the package)" if parser["shipped"] else ""
    return f"{place}{shipped}: {parser['name']}{size}{backend}{digest}"


def _about_published(parsers: Iterable[dict]) -> Iterator[str]:
    """A line for each available or broken parser, and one for all missing ones of an owner."""
    for _, group in itertools.groupby(parsers, lambda parser: parser["id"].split("/")[0]):
        missing = []
        for parser in group:
            if parser["place"]:
                yield f"{parser['id']} ({parser['what']}): {shown(Path(parser['place']))}"
            elif parser["error"]:
                yield f"{parser['id']}: unusable: {parser['error']}"
            else:
                missing.append(parser)
        if missing:
            names = ", ".join([missing[0]["id"], *(p["id"].rpartition("/")[2] for p in missing[1:])])
            size = f"{max(p['size'] for p in missing) / 1e6:.0f} MB"
            state = "not here; one of them: " if missing[0]["on_request"] else "missing; to fetch it: "
            yield f"{names} ({missing[0]['what']}, up to {size}): {state}{missing[0]['fetch']}"


def _about_pipeline(pipeline: dict) -> str:
    if pipeline["place"]:
        return "; ".join([shown(Path(pipeline["place"])), *pipeline.get("doubts", ())])
    if pipeline.get("error"):
        return f"unusable: {pipeline['error']}"
    if pipeline["fetch"] is None:
        return "none named; any inpainting pipeline will do: weights.inpaint=FOLDER|ID"
    return f"{'incomplete' if pipeline['incomplete'] else 'missing'}; to fetch it: {pipeline['fetch']}"


def _about(key: str, w: dict) -> list[str]:
    place = shown(Path(w["place"]))
    columns = ", ".join(w["columns"])
    model = f", metrics.clip.model={CLIP_MODEL}" if key == "clip" else ""
    wanted = f"{w['file']}, {w['size']:,} bytes, SHA-256 {w['sha256'][:8]}..."
    if w["state"] == "missing":
        ways = f"    to fetch it: {w['fetch']}; or set weights.{key}=FILE or weights.root=DIR"
        return [f"  {key} ({columns}{model}): missing; {wanted}, expected at {place}", ways]
    if w["state"] == "there":
        return [f"  {key} ({columns}{model}): {place}, a public file ({w['digest'][:8]}...)"]
    what = f"digest {w['digest'][:8]}..." if w["digest"] else "not read"
    copies = " unless their tensors are those of a public copy here" if key == "clip" else ""
    return [
        f"  {key} ({columns}{model}): {place}, {w['found_size']:,} bytes, {what}: not the public one ({wanted}); "
        f"runs with it are not comparable{copies}; to have that one, remove this and run: {fetch_line(key)}"
    ]


def _gib(mib: int | None) -> str:
    return "memory unknown" if mib is None else f"{mib / 1024:.1f} GiB"

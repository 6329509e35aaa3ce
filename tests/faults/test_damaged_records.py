"""Records whose files or fields are damaged: whoever reads them says one sentence."""

import json
import random
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest

from semfacediff.editing.prompts.words import Words
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.records import mirroring
from semfacediff.records.folder import RunFolder
from semfacediff.records.joining import joined_samples
from semfacediff.records.samples import SampleLog, write_csv, write_parquet, write_rows
from semfacediff.records.summary import summarise_edits
from semfacediff.runs import merge, report, track_sync
from semfacediff.runs.compare import compare
from semfacediff.runs.edit_rows import KEY, Cell
from semfacediff.runs.editing_tables import write_editing_tables
from semfacediff.runs.groups import leakage, strata
from semfacediff.runs.parsing_scores import write_scores
from semfacediff.tables import ablation, editing_figures, named, parsing_figures, presence_figures
from semfacediff.tables.drawn import draw

COMMITTED = {
    "editing": "recolor_strict",
    "parsing": "parsing_fastscnn",
    "synthesis": "sca_dm_tiny_scores",
    "train_parser": "fastscnn_256",
}
PHOTOS = 4
VALUES = (None, -1, 10**30, 0.5, True, "x", "", [], [5], [{}], {}, {"x": 5})
GONE = object()
TRIED = 260
"""Cases of the normal suite; the slow test tries all."""

# --- small records ---------------------------------------------------------------------------------------------------


def cut(source: Path, out: Path) -> Path:
    """A committed record with its first photos only, unsealed so that no digest protects a reader."""
    out.mkdir(parents=True)
    for file in ("config.yaml", "summary.csv", "confusion.csv", "history.csv", "leakage.csv"):
        if (source / file).exists():
            shutil.copyfile(source / file, out / file)
    run = json.loads((source / "run.json").read_text())
    if (source / "samples.parquet").exists():
        rows = pd.read_parquet(source / "samples.parquet")
        rows = rows[rows["sample_id"].isin(sorted(rows["sample_id"].unique())[:PHOTOS])]
        write_parquet(rows, out / "samples.parquet")
        write_rows(out / "samples.jsonl", json.loads(rows.to_json(orient="records")))
        if "attribute" in rows:
            write_csv(summarise_edits(rows, list(rows["attribute"].unique()), PHOTOS), out / "summary.csv")
        run |= {"n": PHOTOS, "n_expected": len(rows)}
        run["part_of"] = {"index": 0, "count": 1, "samples": PHOTOS, "n_expected": PHOTOS}
    for seal in ("files", "config_digest"):
        run.pop(seal, None)
    (out / "run.json").write_text(json.dumps(run))
    return out


@pytest.fixture(scope="module")
def whole(repository, tmp_path_factory):
    """Task -> a small record of it."""
    folder = tmp_path_factory.mktemp("whole")
    return {task: cut(repository / "results" / "runs" / name, folder / task) for task, name in COMMITTED.items()}


# --- damages ---------------------------------------------------------------------------------------------------------


def leaves(plain, path=()):
    """Paths to every field of nested mappings, and to the first entry of lists."""
    for key, value in plain.items() if isinstance(plain, dict) else [(0, plain[0])] if plain else []:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))


def field_damages(run: dict):
    skipped = ("packages",)
    for path in leaves(run):
        if path[0] not in skipped:
            yield from ((path, value) for value in (*VALUES, GONE))


def damage_field(folder: Path, path: tuple, value: object) -> None:
    run = json.loads((folder / "run.json").read_text())
    place = run
    for key in path[:-1]:
        place = place[key]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / "run.json").write_text(json.dumps(run))


FILE_DAMAGES = {
    "absent": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "noise": lambda file: file.write_bytes(random.Random(0).randbytes(300)),
    "folder": lambda file: (file.unlink(), file.mkdir()),
    "deep": lambda file: file.write_text("[" * 100_000),
    "deeper": lambda file: file.write_text('{"a":' * 400 + "1" + "}" * 400 + "\n"),
}


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)


def write(table: pd.DataFrame, file: Path) -> None:
    write_csv(table, file) if file.suffix == ".csv" else write_parquet(table, file)


COLUMN_DAMAGES = {
    "words": lambda table, name: table.assign(**{name: "x"}),
    "numbers": lambda table, name: table.assign(**{name: 7.5}),
    "huge": lambda table, name: table.assign(**{name: 1e300}),
    "missing": lambda table, name: table.assign(**{name: None}),
    "dropped": lambda table, name: table.drop(columns=name),
    "no rows": lambda table, name: table[:0],
}
ROW_VALUES = (None, -1, 1e300, "x", [], [[1, 2]], [[0, 0, 99], [40, 2, 3]], {})


def damages(folder: Path):
    """(name, what damages a copy of ``folder``) for every damage."""
    run = json.loads((folder / "run.json").read_text())
    for path, value in field_damages(run):
        said = "gone" if value is GONE else repr(value)
        yield f"{'.'.join(map(str, path))}={said}", lambda f, p=path, v=value: damage_field(f, p, v)
    for file in sorted(f.name for f in folder.iterdir()):
        for name, damage in FILE_DAMAGES.items():
            yield f"{file} {name}", lambda f, n=file, d=damage: d(f / n)
        if file.endswith((".csv", ".parquet")):
            for column in read(folder / file):
                for name, damage in COLUMN_DAMAGES.items():
                    yield (
                        f"{file} {column} {name}",
                        lambda f, n=file, c=column, d=damage: write(d(read(f / n), c), f / n),
                    )
        if file == "samples.jsonl":
            first = json.loads((folder / file).read_text().splitlines()[0])
            for column in first:
                for value in ROW_VALUES:
                    yield f"{file} {column}={value!r}", lambda f, c=column, v=value: damage_row(f, c, v)


def damage_row(folder: Path, column: str, value: object) -> None:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {column: value})
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n")


# --- readers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def readers(whole, repository, tmp_path, monkeypatch):
    """Task -> name -> reader of a folder's record. Figures are made but not written, which takes half a second each."""
    for module in (editing_figures, parsing_figures, presence_figures):
        monkeypatch.setattr(module, "save_figure", lambda figure, file: None)
    monkeypatch.setattr(editing_figures, "leakage_figure", lambda *_: None)
    monkeypatch.setattr(parsing_figures, "training_curves", lambda history, file: named.read_table(history))
    monkeypatch.setattr(merge, "draw_scores", lambda *_: None)
    monkeypatch.setattr(track_sync, "sync", mirroring.is_new)

    def table(kind, **keys):
        return lambda f: named.table(named.TableDefinition("t", "t", kind, run=str(f), **keys), repository)

    def page(f):
        """With a whole one beside it, the damaged one costs nobody the page."""
        other = whole["parsing" if f.parent.name != "parsing" else "editing"]
        out = report.report([f, other], tmp_path / "page", report.Wish())
        assert "</html>" in out.read_text()

    def resumed(f):
        run = json.loads((whole[f.parent.name] / "run.json").read_text())
        shutil.rmtree(tmp_path / "resumed", ignore_errors=True)
        shutil.copytree(f, tmp_path / "resumed")
        with RunFolder(tmp_path / "resumed", run["identity"], {}, "") as record:
            if f.parent.name in ("editing", "parsing"):
                log = SampleLog(record.path / "samples.jsonl", KEY[: 1 + (f.parent.name == "editing")])
                order = sorted(log.done)
                samples = log.finish(order)
                if f.parent.name == "editing":
                    cells = [Cell(a, Words("x")) for a in run["identity"]["config"]["attributes"]]
                    write_editing_tables(record.path, samples, cells, PHOTOS, {}, CELEBAMASK)
                else:
                    write_scores(log.rows, CELEBAMASK, "strict", 1, record.path)
            record.update(n=1)

    def merged(f):
        shutil.rmtree(tmp_path / "merged", ignore_errors=True)
        merge.merge([f], tmp_path / "merged")

    def swept(names):
        return lambda f: ablation.ablation_grid(f.parent, names, "x")

    every = {
        "report": page,
        "figures": lambda f: draw(f, tmp_path / "figures", repository),
        "track": lambda f: track_sync.track_sync([f], {}),
        "resume": resumed,
    }
    return {
        "editing": every
        | {
            "compare": lambda f: compare(whole["editing"], f, [], raw=True),
            "strata": lambda f: strata(f, "skin_tone", []),
            "leakage": lambda f: leakage(f, None, None),
            "merge": merged,
            "join": lambda f: joined_samples([f]),
            "table": table("editing"),
            "strata table": table("strata", by="region_size", columns=("ssim",)),
            "sweep": swept(("ssim", "lpips", "fid")),
        },
        "parsing": every
        | {
            "strata": lambda f: strata(f, "skin_tone", []),
            "merge": merged,
            "table": table("parsing"),
            "sweep": swept(("miou",)),
        },
        "synthesis": {name: every[name] for name in ("report", "track", "resume")} | {"merge": merged},
        "train_parser": every | {"sweep": swept(("miou",))},
    }


def tried(case, whole, readers, tmp_path) -> str | None:
    """What came out of a reader but a :class:`UserError`; ``None`` if nothing did."""
    task, said, damage, reader = case
    folder = tmp_path / "damaged" / task / "run"
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(whole[task], folder)
    damage(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            readers[task][reader](folder)
    except UserError as e:
        assert "\n" not in str(e), e
        if reader == "report":
            return f"{task} {reader}: {said}: costs the page: {e}"
    except Exception as e:
        return f"{task} {reader}: {said}: {type(e).__name__}: {str(e)[:100]}"
    return None


def all_cases(whole, readers):
    return [
        (task, said, damage, reader)
        for task, folder in whole.items()
        for said, damage in damages(folder)
        for reader in readers[task]
    ]


def test_undamaged_records_are_read(whole, readers, tmp_path):
    for task, of_task in readers.items():
        folder = tmp_path / task / "run"
        shutil.copytree(whole[task], folder)
        for name, reader in of_task.items():
            print(task, name)
            reader(folder)


def test_damage_is_a_sentence_for_every_reader(whole, readers, tmp_path, capsys):
    cases = random.Random(20).sample(all_cases(whole, readers), TRIED)
    assert [found for case in cases if (found := tried(case, whole, readers, tmp_path))] == []


@pytest.mark.slow
def test_every_damage_is_a_sentence_for_every_reader(whole, readers, tmp_path, capsys):
    found = [said for case in all_cases(whole, readers) if (said := tried(case, whole, readers, tmp_path))]
    assert found == []

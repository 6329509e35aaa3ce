"""Records whose files or fields are damaged: whoever reads them says one sentence."""

import contextlib
import json
import random
import re
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from semfacediff.cli import main
from semfacediff.commands.compare.runs import compare
from semfacediff.commands.merge import parts as merge
from semfacediff.commands.report import page as report
from semfacediff.commands.track import sync as track_sync
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.prompts.words import Words
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing.checkpoint import load_parser, read_card
from semfacediff.records import mirroring
from semfacediff.records.folder import RunFolder, read_run
from semfacediff.records.joining import joined_samples
from semfacediff.records.samples import SampleLog, write_csv, write_parquet, write_rows
from semfacediff.records.summary import summarise_edits
from semfacediff.synthesis.checkpoint import load_synthesis, read_synthesis_card
from semfacediff.tables import ablation, definitions, editing_figures, parsing_figures, presence_figures
from semfacediff.tables.draw_all import draw
from semfacediff.tasks.editing.sample_row import KEY
from semfacediff.tasks.editing.tables import write_editing_tables
from semfacediff.tasks.parsing.scores import write_scores
from semfacediff.tasks.strata_report import leakage, strata
from semfacediff.tasks.training.files import TrainingFiles

COMMITTED = {
    "editing": "composite/composite-4103d86e",
    "parsing": "face_lite_scores",
    "synthesis": "sca_dm_tiny_scores",
    "train_parser": "face_lite_512",
}
PHOTOS = 4
PART = {"index": 0, "count": 1, "samples": PHOTOS, "n_expected": PHOTOS}
VALUES = (None, -1, 10**30, 0.5, True, "x", "", [], [5], [{}], {}, {"x": 5})
GONE = object()
TRIED, TRIED_DEARLY, TRIED_SLOWLY = 200, 3, 3000
"""Cases of the normal suite, those of them that make a page or figures, and cases of the slow test."""
DEAR = ("report", "figures", "strata", "strata table", "leakage", "compare", "merge")

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
    for path in leaves(run | {"part_of": PART}):
        if path[0] not in skipped:
            yield from ((path, value) for value in (*VALUES, GONE))


def damage_field(folder: Path, path: tuple, value: object) -> None:
    run = json.loads((folder / "run.json").read_text())
    place = run = {"part_of": dict(PART)} | run if path[0] == "part_of" else run
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
    return readers_of(whole, repository, tmp_path, monkeypatch)


def readers_of(whole, repository, tmp_path, monkeypatch):
    """Task -> name -> reader of a folder's record. Figures are made but not written, which takes half a second each."""
    for module in (editing_figures, parsing_figures, presence_figures):
        monkeypatch.setattr(module, "save_figure", lambda figure, file: None)
    monkeypatch.setattr(editing_figures, "leakage_figure", lambda *_: None)
    monkeypatch.setattr(parsing_figures, "training_curves", lambda history, file: definitions.read_table(history))
    monkeypatch.setattr(merge, "draw_scores", lambda *_: None)
    monkeypatch.setattr(track_sync, "sync", mirroring.is_new)

    def table(kind, **keys):
        return lambda f: definitions.table(definitions.TableDefinition("t", "t", kind, run=str(f), **keys), repository)

    def page(f):
        """With a whole one beside it, the damaged one costs nobody the page."""
        other = whole["parsing" if f.parent.name != "parsing" else "editing"]
        out = report.report([f, other], tmp_path / "page", report.ReportOptions())
        assert "</html>" in out.read_text()

    def resumed(f):
        run = read_run(whole[f.parent.name])
        shutil.rmtree(tmp_path / "resumed", ignore_errors=True)
        shutil.copytree(f, tmp_path / "resumed")
        with RunFolder(tmp_path / "resumed", run["identity"], {}, "") as record:
            if f.parent.name in ("editing", "parsing"):
                log = SampleLog(record.path / "samples.jsonl", KEY[: 1 + (f.parent.name == "editing")])
                order = sorted(log.done)
                samples = log.finish(order)
                if f.parent.name == "editing":
                    cells = [EditSpec(a, Words("x")) for a in run["identity"]["config"]["attributes"]]
                    write_editing_tables(record.path, samples, cells, {c.name: PHOTOS for c in cells}, {}, CELEBAMASK)
                else:
                    write_scores(log.rows, CELEBAMASK, "strict", 1, record.path)
            record.update(n=1)

    def merged(f):
        with contextlib.suppress(Exception):  # what is damaged is for merge to say
            run = json.loads((f / "run.json").read_text())
            (f / "run.json").write_text(json.dumps({"part_of": PART} | run))
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
        if reader == "report" or "\n" in str(e):
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


def test_undamaged_records_are_read(whole, readers, tmp_path, capsys):
    """Without which the cases below would show nothing."""
    for task, of_task in readers.items():
        for name, reader in of_task.items():
            if task == "editing" or name not in ("report", "figures"):  # one page and one figure: each takes a second
                shutil.copytree(whole[task], tmp_path / name / task / "run")
                reader(tmp_path / name / task / "run")


@pytest.mark.slow
def test_damage_is_a_sentence_for_every_reader(whole, readers, tmp_path, capsys):
    drawn, cases = random.Random(20), all_cases(whole, readers)
    dear = [case for case in cases if case[-1] in DEAR]
    cheap = [case for case in cases if case[-1] not in DEAR]
    chosen = drawn.sample(cheap, TRIED) + drawn.sample(dear, TRIED_DEARLY)
    assert [found for case in chosen if (found := tried(case, whole, readers, tmp_path))] == []


@pytest.mark.slow
def test_many_damages_are_sentences_for_every_reader(whole, readers, tmp_path, capsys):
    cases = random.Random(21).sample(all_cases(whole, readers), TRIED_SLOWLY)
    assert [found for case in cases if (found := tried(case, whole, readers, tmp_path))] == []


def test_a_confusion_without_one_of_its_classes_is_named_on_the_page(whole, readers, tmp_path):
    folder = tmp_path / "parsing" / "run"
    shutil.copytree(whole["parsing"], folder)
    file = folder / "confusion.csv"
    write(read(file).drop(columns="neck_l"), file)
    readers["parsing"]["report"](folder)
    assert "confusion.csv cannot be read (UserError)" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda f: (f / "summary.csv").unlink(),
            r"no summary.csv, so the run has not come to its end; repeat its command",
        ),
        (lambda f: (f / "run.json").write_text("[" * 100_000), r"run.json: not a run's record \(RecursionError\)"),
        (
            lambda f: damage_field(f, ("parser", "name"), 5),
            r"run.json: parser.name is damaged \(.*, found 5\)",
        ),
        (lambda f: damage_field(f, ("editor",), GONE), r"run.json: editor is not there, so the record is damaged"),
        (lambda f: (f / "samples.parquet").write_bytes(b"PAR1"), r"samples.parquet: cannot be read \(ArrowInvalid\)"),
        (
            lambda f: write(COLUMN_DAMAGES["words"](read(f / "summary.csv"), "ssim_mean"), f / "summary.csv"),
            r"summary.csv: cannot be read \(column ssim_mean: 2 of 2 cells are damaged \(first 'x'\)\)",
        ),
    ],
)
def test_what_is_damaged_is_named_and_the_exit_code_is_2(whole, tmp_path, capsys, damage, said):
    folder = tmp_path / "run"
    shutil.copytree(whole["editing"], folder)
    damage(folder)
    assert main(["figures", str(folder), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert re.search(rf"^error: .*{said}", err), err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


# --- runs that go on -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_deleted_while_its_run_goes_on_is_a_sentence(tmp_path):
    with RunFolder(tmp_path / "run", {}, {}, "") as record:
        log = SampleLog(tmp_path / "run" / "samples.jsonl", ("sample_id",))
        log.append({"sample_id": "a", "status": "ok"})
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(UserError, match=r"samples.jsonl was deleted while its run went on; repeat the command"):
            log.append({"sample_id": "b", "status": "ok"})
        with pytest.raises(UserError, match="was deleted while its run went on"):
            log.finish([("a",), ("b",)])
        with pytest.raises(UserError, match=r"run was deleted while its run went on; repeat the command"):
            record.update(n=1)


TRAINING = (
    "parser=fastscnn_lite data=toy data.count=8 data.size=64 train.epochs=1 train.batch_size=4 train.size=64 "
    "runtime.workers=0 runtime.device=cpu optim.warmup_steps=1"
).split()


def test_a_state_that_does_not_fit_is_a_sentence(tmp_path):
    files = TrainingFiles(tmp_path, 1, None)
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.AdamW([weight])
    with files.continuing(lambda: optimiser):
        pass
    optimiser.state[weight] = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}
    with (
        pytest.raises(
            UserError, match=r"last/state.pt: not the state of this training \(ValueError: the opt.*; remove"
        ),
        files.continuing(lambda: optimiser),
    ):
        pass
    with pytest.raises(UserError, match=r"\(KeyError: 'progress'\)"), files.continuing(lambda: optimiser):
        raise KeyError("progress")
    with pytest.raises(torch.OutOfMemoryError), files.continuing(lambda: optimiser):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.slow
def test_a_training_state_of_another_shape_is_a_sentence(compose, tmp_path):
    from semfacediff import config, tasks

    settings = config.typed(compose("train_parser", *TRAINING), config.ParserTraining)
    folder = tmp_path / "run"
    assert tasks.start(settings, folder) == 0
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"status": "running"}))
    file = folder / "checkpoints" / "last" / "state.pt"
    kept = torch.load(file, weights_only=True)
    shapes = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": kept["optimiser"]["param_groups"]}
    for damaged in (
        {},
        kept | {"progress": 5},
        kept | {"progress": {"epoch": "one"}},
        kept | {"optimiser": {"state": {}, "param_groups": []}},
        kept | {"optimiser": shapes},
        kept | {"course": None},
    ):
        torch.save(damaged, file)
        with pytest.raises(UserError, match=r"state.pt: not the state of this training .*; remove the folder"):
            tasks.start(settings, folder)


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_weights_that_hold_nan_are_refused(tiny_checkpoint, tiny_synthesis, tmp_path):
    for source, load in ((tiny_checkpoint, load_parser), (tiny_synthesis, load_synthesis)):
        folder = tmp_path / load.__name__
        shutil.copytree(source, folder)
        load(folder)
        weights = load_file(folder / "model.safetensors")
        name = next(k for k, v in weights.items() if v.is_floating_point())
        weights[name].view(-1)[-1] = float("nan")
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(UserError, match=rf"model.safetensors: 1 weights hold NaN \({re.escape(name)}\)"):
            load(folder)


def test_a_card_nested_too_deeply_is_a_sentence(tmp_path):
    for name, read_one in (("parser.json", read_card), ("synthesis.json", read_synthesis_card)):
        (tmp_path / name).write_text("[" * 100_000)
        with pytest.raises(UserError, match=rf"{name}: not a (parser|model)'s card"):
            read_one(tmp_path)

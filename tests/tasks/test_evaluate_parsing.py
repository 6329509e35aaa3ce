"""Scoring a parser from configuration to table, against a plain count over the files."""

import functools
import json
import shutil
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from semfacediff import config, tasks
from semfacediff.cli import main
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.face_facts import face_facts
from semfacediff.metrics.photo_counts import SUMMARY_ROWS
from semfacediff.parsing import load_parser
from semfacediff.parsing.precomputed import PrecomputedParser
from semfacediff.parsing.predict import ModelParser
from semfacediff.tables.drawing import save_figure
from semfacediff.tables.parsing_figures import draw_scores
from semfacediff.tasks.parsing import evaluate as evaluate_parsing
from semfacediff.tasks.parsing.scores import PhotoScorer
from semfacediff.types import FaceSample

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = "task=parsing data=folder weights.download=false runtime.device=cpu runtime.workers=0".split()
FIRST_ROWS = ["miou", "miou_no_background", "mean_f1_no_background", "pixel_accuracy"]
FIRST_COLUMNS = ["class", "iou", "f1", "precision", "recall", "pixels", "images"]
FIGURES = {f"{n}.{s}" for n in ("class_f1", "class_iou", "confusion", "coverage", "strips") for s in ("pdf", "png")}


@functools.cache
def _settings(overrides: tuple[str, ...]) -> config.ParsingEvaluation:
    return config.typed(composed("evaluate", [*SMALL, *overrides], REPOSITORY), config.ParsingEvaluation)


def settings(root: Path, *overrides: str) -> config.ParsingEvaluation:
    return _settings((f"data.root={root}", *overrides))


def from_files(root: Path, *overrides: str) -> config.ParsingEvaluation:
    return settings(root, "parser=precomputed", f"parser.root={root}/parses", *overrides)


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def tables(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "summary.csv").read_bytes(), (folder / "samples.parquet").read_bytes()


def contents(folder: Path) -> dict:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def read(file):
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    """Four photos of three sizes with labels, and label maps that are off by some pixels and name classes wrongly."""
    root = write_files(tmp_path_factory.mktemp("files"), [(64, 64), (96, 80), (64, 64), (70, 101)])
    for i, file in enumerate(sorted((root / "parses/before").iterdir())):
        wrong = np.roll(read(file), 2 + i, axis=1)
        wrong[wrong == 11] = 18  # upper lips are never found, clothes only imagined
        Image.fromarray(wrong).save(file)
    return root


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """No figures: they take longer than everything else together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_parsing, "save_figure", lambda *_: None)
        patch.setattr(evaluate_parsing, "draw_scores", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert tasks.start(from_files(files), folder) == 0
    return folder


def counted(pairs):
    """class -> (iou, f1, precision, recall, pixels, images) over (truth, predicted) pairs, ``None`` where absent."""
    rows = {}
    for c, name in enumerate(CELEBAMASK.classes):
        hit = sum(int(((t == c) & (p == c)).sum()) for t, p in pairs)
        true, found = (sum(int((x[k] == c).sum()) for x in pairs) for k in (0, 1))
        if true + found == 0:
            rows[name] = None
            continue
        precision, recall = hit / found if found else 0, hit / true if true else 0
        f1 = 2 * hit / (true + found)
        images = sum(bool((t == c).any()) for t, _ in pairs)
        rows[name] = (hit / (true + found - hit), f1, precision, recall, true, images)
    return rows


def assert_equals_a_plain_count(folder, pairs):
    table = pd.read_csv(folder / "summary.csv").set_index("class")
    rows = counted(pairs)
    for name, row in rows.items():
        cells = table.loc[name, ["iou", "f1", "precision", "recall", "pixels", "images"]].astype(float)
        if row is None:
            assert cells.iloc[:4].isna().all()
            assert (cells.iloc[4:] == 0).all()
        else:
            assert cells.tolist() == pytest.approx(row, abs=1e-9)
    present = [r for r in rows.values() if r]
    faces = [r for name, r in rows.items() if r and name != "background"]
    assert table.loc["miou", "iou"] == pytest.approx(np.mean([r[0] for r in present]), abs=1e-9)
    assert table.loc["miou_no_background", "iou"] == pytest.approx(np.mean([r[0] for r in faces]), abs=1e-9)
    assert table.loc["mean_f1_no_background", "f1"] == pytest.approx(np.mean([r[1] for r in faces]), abs=1e-9)
    right, total = sum(int((t == p).sum()) for t, p in pairs), sum(t.size for t, _ in pairs)
    assert table.loc["pixel_accuracy", "recall"] == pytest.approx(right / total, abs=1e-9)


def test_documented_rows_and_columns(finished):
    table = pd.read_csv(finished / "summary.csv")
    assert list(table)[:7] == FIRST_COLUMNS
    assert list(table)[7:] == ["boundary_f1", "iou_low", "iou_high", "loss"]
    assert list(table["class"][:23]) == [*CELEBAMASK.classes, *FIRST_ROWS]
    assert list(table["class"][23:]) == ["mean_accuracy", "long_tail_miou", *SUMMARY_ROWS]
    run = record(finished)
    assert (run["status"], run["task"], run["n"], run["n_expected"]) == ("done", "parsing", 4, 4)
    assert run["not_comparable"] == []


def test_numbers_equal_a_plain_count_over_the_files(finished, files):
    pairs = [(read(files / f"masks/{i}.png"), read(files / f"parses/before/{i}.png")) for i in "abcd"]
    assert_equals_a_plain_count(finished, pairs)
    table = pd.read_csv(finished / "summary.csv").set_index("class")
    assert table.loc["u_lip", "iou"] == table.loc["cloth", "iou"] == 0
    assert np.isnan(table.loc["hat", "iou"])


def test_a_networks_numbers_equal_a_plain_count_over_its_own_maps(files, checkpoint, tmp_path, monkeypatch):
    """Those that the run scored; another way to them may decide near ties otherwise."""
    scored, own = PhotoScorer._scored, {}

    def kept(self, sample, *rest):
        own[sample.id], loss = scored(self, sample, *rest)
        return own[sample.id], loss

    monkeypatch.setattr(PhotoScorer, "_scored", kept)
    assert tasks.start(settings(files, f"parser.checkpoint={checkpoint}"), tmp_path) == 0
    parser, pairs = ModelParser(*load_parser(checkpoint), torch.device("cpu")), []
    for id_ in "abcd":
        truth = read(files / f"masks/{id_}.png")
        photo = torch.from_numpy(read(files / f"images/{id_}.png") / np.float32(255)).permute(2, 0, 1)
        assert (own[id_] == parser.predict(photo[None], truth.shape)[0].numpy()).mean() >= 0.999
        pairs.append((truth, own[id_]))
    assert {len(np.unique(p)) for _, p in pairs} == {2}
    assert_equals_a_plain_count(tmp_path, pairs)


def test_sample_rows_carry_their_own_scores_and_counts(finished, files):
    rows = pd.read_parquet(finished / "samples.parquet").set_index("sample_id")
    assert list(rows.index) == list("abcd")
    truth, predicted = read(files / "masks/b.png"), read(files / "parses/before/b.png")
    assert rows.loc["b", "pixel_accuracy"] == pytest.approx((truth == predicted).mean(), abs=1e-12)
    assert sum(n for _, _, n in rows.loc["b", "confusion"]) == truth.size


def test_photos_are_told_apart_by_the_skin_and_pose_of_their_labels(finished, files):
    rows = pd.read_parquet(finished / "samples.parquet").set_index("sample_id")
    photo, truth = np.asarray(Image.open(files / "images/b.png").convert("RGB")), read(files / "masks/b.png")
    facts = face_facts(FaceSample("b", photo, truth), photo, truth, CELEBAMASK)
    for name in ("ita_deg", "pose_proxy"):
        assert rows.loc["b", name] == pytest.approx(facts[name], abs=1e-9)


def test_strata_of_a_parsing_run(finished, capsys):
    samples = pd.read_parquet(finished / "samples.parquet")
    angles = samples["ita_deg"]
    assert main(["strata", str(finished), "--by", "skin_tone"]) == 0
    printed = capsys.readouterr().out
    assert "strata: ITA of the skin" in printed
    assert "| all classes |" in printed
    for name, there in (("very light", (angles > 55).any()), ("dark", (angles <= -30).any())):
        line = next(line for line in printed.splitlines() if f" ({name}) " in line)
        assert (" (0) " not in line) == there
    assert main(["strata", str(finished), "--by", "region_size"]) == 2
    assert "expected --by one of skin_tone, pose" in capsys.readouterr().err


def test_asked_for_strata_are_printed_at_the_end(files, tmp_path, capsys):
    assert tasks.start(from_files(files, "stratify=[pose]"), tmp_path / "run") == 0
    assert "by pose:\n| attribute " in capsys.readouterr().out
    with pytest.raises(UserError, match="stratify: expected of skin_tone, pose, got region_size"):
        tasks.start(from_files(files, "stratify=[region_size]"), tmp_path / "other")


def test_workers_and_batch_size_change_nothing(finished, files, tmp_path):
    assert tasks.start(from_files(files, "runtime.workers=2", "runtime.batch_size=1"), tmp_path) == 0
    assert tables(tmp_path) == tables(finished)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.999])
def test_a_log_cut_in_the_middle_of_a_line_is_continued(finished, files, tmp_path, kept):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    whole = (finished / "samples.jsonl").read_bytes()
    (folder / "samples.jsonl").write_bytes(whole[: int(kept * len(whole))])
    (folder / "run.json").write_text(json.dumps(record(folder) | {"status": "running"}))
    assert tasks.start(from_files(files), folder) == 0
    assert tables(folder) == tables(finished)
    assert (folder / "samples.jsonl").read_bytes() == whole


@pytest.mark.parametrize("stop_at", [0, 2])
def test_interrupted_it_ends_with_the_same_table(finished, files, tmp_path, monkeypatch, stop_at):
    read_, made = PrecomputedParser.before, []

    def stopping(self, sample, photo):
        if len(made) == stop_at:
            raise KeyboardInterrupt
        made.append(None)
        return read_(self, sample, photo)

    monkeypatch.setattr(PrecomputedParser, "before", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(from_files(files), tmp_path)
    assert record(tmp_path)["status"] == "running"
    monkeypatch.undo()
    assert tasks.start(from_files(files), tmp_path) == 0
    assert tables(tmp_path) == tables(finished)


def test_a_finished_run_is_left_alone_and_printed(finished, files, capsys):
    before = contents(finished)
    assert tasks.start(from_files(files), finished) == 0
    assert contents(finished) == before
    out = capsys.readouterr().out
    assert "**miou**" in out
    assert "parser precomputed, n = 4 of 4" in out


def test_another_configuration_is_refused(finished, files):
    with pytest.raises(UserError, match=r"belongs to another configuration: config\.data\.n was None, now 2"):
        tasks.start(from_files(files, "data.n=2"), finished)


def test_a_failing_sample_is_recorded_and_tried_again(finished, files, tmp_path, monkeypatch):
    read_ = PrecomputedParser.before

    def failing(self, sample, photo):
        if sample.id == "c":
            raise RuntimeError("out of luck")
        return read_(self, sample, photo)

    monkeypatch.setattr(PrecomputedParser, "before", failing)
    assert tasks.start(from_files(files), tmp_path) == 1
    run = record(tmp_path)
    assert (run["status"], run["n"], run["n_expected"], run["n_failed"]) == ("incomplete", 3, 4, 1)
    rows = pd.read_parquet(tmp_path / "samples.parquet").set_index("sample_id")
    assert rows.loc["c", "error"] == "RuntimeError: out of luck"
    monkeypatch.undo()
    assert tasks.start(from_files(files), tmp_path) == 0
    assert tables(tmp_path) == tables(finished)


def test_when_everything_fails_there_is_still_a_record(files, tmp_path, monkeypatch):
    def failing(self, sample, photo):
        raise RuntimeError("never")

    monkeypatch.setattr(PrecomputedParser, "before", failing)
    assert tasks.start(from_files(files), tmp_path) == 1
    assert record(tmp_path)["n_failed"] == 4
    table = pd.read_csv(tmp_path / "summary.csv").set_index("class")
    assert table[["iou", "f1"]].isna().all(axis=None), "nothing was scored, so there is no score"


def test_scoring_the_labels_against_themselves_is_refused(files, tmp_path):
    with pytest.raises(UserError, match="ground_truth would be scored against itself; set parser"):
        tasks.start(settings(files, "parser=ground_truth"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_thesiss_protocol_scores_edits_only(files):
    with pytest.raises(UserError, match="protocol=thesis scores edits; use protocol=strict, ce7454 or segface"):
        from_files(files, "protocol=thesis")


@pytest.mark.parametrize("protocol", ["ce7454", "segface"])
def test_protocols_of_parsers_score_no_edits(protocol):
    words = ["task=editing", f"protocol={protocol}"]
    with pytest.raises(UserError, match=rf"^protocol={protocol} scores label maps; drop task=editing"):
        config.typed(composed("evaluate", words, REPOSITORY), config.EditingEvaluation, config.ParsingEvaluation)


@pytest.mark.parametrize("protocol", ["ce7454", "segface"])
def test_a_protocol_of_parsers_chooses_the_task(protocol):
    cfg = composed("evaluate", [f"protocol={protocol}", "data=toy"], REPOSITORY)
    settings = config.typed(cfg, config.EditingEvaluation, config.ParsingEvaluation)
    assert (settings.task, settings.protocol) == ("parsing", protocol)


def nearest(labels, side):
    """By hand: the label at the centre of each new pixel."""
    rows, columns = (np.floor((np.arange(side) + 0.5) * n / side).astype(int) for n in labels.shape)
    return labels[np.ix_(rows, columns)]


@pytest.mark.parametrize("protocol", ["ce7454", "segface"])
def test_published_protocols_score_label_maps_at_512(files, tmp_path, protocol):
    assert tasks.start(from_files(files, f"protocol={protocol}"), tmp_path) == 0
    table = pd.read_csv(tmp_path / "summary.csv").set_index("class")
    pairs = [(read(files / f"masks/{i}.png"), read(files / f"parses/before/{i}.png")) for i in "abcd"]
    large = [tuple(nearest(x, 512) for x in pair) for pair in pairs]
    assert table.loc["miou", "pixels"] == 4 * 512 * 512
    truth, predicted = (np.stack([pair[k] for pair in large]) for k in (0, 1))
    hair = (truth == 13), (predicted == 13)
    iou = (hair[0] & hair[1]).sum() / (hair[0] | hair[1]).sum()
    assert table.loc["hair", "iou"] == pytest.approx(iou, abs=1e-9)
    if protocol == "segface":
        assert table.loc["hat", "iou"] == 0
        assert np.isnan(table.loc["mean_f1_no_background", "f1"])
        native = counted(pairs)["hair"]
        assert table.loc["hair", ["iou_native", "f1_native"]].tolist() == pytest.approx(native[:2], abs=1e-9)
    else:
        assert np.isnan(table.loc["hat", "iou"])


def test_a_networks_loss_is_torchs_at_the_labels_size(files, checkpoint, tmp_path):
    assert tasks.start(settings(files, f"parser.checkpoint={checkpoint}"), tmp_path) == 0
    model, card = load_parser(checkpoint)
    model.eval()
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (card.mean, card.std))
    total, pixels, own = 0.0, 0, {}
    for id_ in "abcd":
        truth = torch.from_numpy(read(files / f"masks/{id_}.png").astype(np.int64))[None]
        photo = torch.from_numpy(read(files / f"images/{id_}.png") / np.float32(255)).permute(2, 0, 1)[None]
        x = torch.nn.functional.interpolate(photo, (64, 64), mode="bilinear", antialias=True)
        with torch.no_grad():
            logits = model((x - mean) / std)
        logits = torch.nn.functional.interpolate(logits, truth.shape[1:], mode="bilinear")
        own[id_] = float(torch.nn.functional.cross_entropy(logits, truth))
        total, pixels = total + own[id_] * truth.numel(), pixels + truth.numel()
    table = pd.read_csv(tmp_path / "summary.csv").set_index("class")
    assert table.loc["loss", "loss"] == pytest.approx(total / pixels, rel=1e-5)
    rows = pd.read_parquet(tmp_path / "samples.parquet").set_index("sample_id")
    assert rows["loss"].to_dict() == pytest.approx(own, rel=1e-5)
    assert "loss" in {metric["metric"] for metric in record(tmp_path)["metrics"]}


def test_label_maps_from_files_have_no_loss(finished):
    assert pd.read_csv(finished / "summary.csv")["loss"].isna().all()
    assert "loss" not in {metric["metric"] for metric in record(finished)["metrics"]}


def test_confusion_is_in_the_record(finished, files):
    table = pd.read_csv(finished / "confusion.csv").set_index("truth")
    pairs = [(read(files / f"masks/{i}.png"), read(files / f"parses/before/{i}.png")) for i in "abcd"]
    expected = sum(((t == 11) & (p == 18)).sum() for t, p in pairs)
    assert table.loc["u_lip", "cloth"] == expected > 0
    assert table.to_numpy().sum() == sum(t.size for t, _ in pairs)


def test_best_median_and_worst_are_ranked_by_their_own_miou():
    rows = [
        {"sample_id": i, "status": "ok", "miou": m} for i, m in zip("abcde", (0.2, 0.9, 0.5, 0.9, 0.7), strict=True)
    ]
    rows.append({"sample_id": "f", "status": "error"})
    chosen = evaluate_parsing.best_median_worst(rows)
    assert {title: row["sample_id"] for title, row in chosen.items()} == {"best": "b", "median": "e", "worst": "a"}
    assert list(evaluate_parsing.best_median_worst(rows[:1])) == ["best"]
    assert list(evaluate_parsing.best_median_worst(rows[:2])) == ["best", "median"]
    assert evaluate_parsing.best_median_worst(rows[5:]) == {}


def test_the_figures_are_there(files, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_parsing, "save_figure", save_figure)
    monkeypatch.setattr(evaluate_parsing, "draw_scores", draw_scores)
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, file, **_: file.touch())
    shown = {}
    strip_figure = evaluate_parsing.strip_figure
    monkeypatch.setattr(evaluate_parsing, "strip_figure", lambda s, space: shown.update(s=s) or strip_figure(s, space))
    assert tasks.start(from_files(files), tmp_path) == 0
    assert {file.name for file in (tmp_path / "figures").iterdir()} == FIGURES
    rows = pd.read_parquet(tmp_path / "samples.parquet").set_index("sample_id")
    best, median, worst = shown["s"]
    assert best.title == f"best: {rows['miou'].idxmax()}\nmIoU {100 * rows['miou'].max():.1f} %"
    assert worst.title.startswith(f"worst: {rows['miou'].idxmin()}\n")
    id_ = median.title.split()[1].strip()
    assert np.array_equal(median.truth, read(files / f"masks/{id_}.png"))
    assert np.array_equal(median.predicted, read(files / f"parses/before/{id_}.png"))


def test_rows_that_say_less_are_made_again(finished, files, tmp_path):
    """A run begun by a version that did not look at the pose, and continued by this one."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    rows = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    rows[1].pop("pose_proxy")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps(record(folder) | {"status": "running"}))
    assert tasks.start(from_files(files), folder) == 0
    assert tables(folder) == tables(finished)


def test_no_parser_is_refused_with_the_ways_out(files, tmp_path, nothing_ships):
    with pytest.raises(UserError, match=r"no trained parser: set parser\.checkpoint=FOLDER"):
        tasks.start(settings(files), tmp_path / "run")


def test_label_maps_in_another_order_are_refused(files, tmp_path):
    shutil.copytree(files, tmp_path / "files")
    Image.fromarray(np.full((64, 64), 19, np.uint8)).save(tmp_path / "files/parses/before/a.png")
    assert tasks.start(from_files(tmp_path / "files"), tmp_path / "run") == 1
    error = pd.read_parquet(tmp_path / "run/samples.parquet").set_index("sample_id").loc["a", "error"]
    assert "before/a.png: label values 19 lie outside space 'celebamask' (0..18)" in error


def test_a_network_of_another_label_space_is_converted_by_class_name(files, checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "other")
    card = json.loads((checkpoint / "parser.json").read_text())
    (tmp_path / "other/parser.json").write_text(json.dumps(card | {"label_space": "zllrunning"}))
    assert tasks.start(settings(files, f"parser.checkpoint={tmp_path}/other"), tmp_path / "run") == 0
    table = pd.read_csv(tmp_path / "run/summary.csv").set_index("class")
    assert table.loc["skin", "recall"] > 0, "index 1 is skin in both"
    # index 13 is hair here and the lower lip there
    assert table.loc["hair", "precision"] == 0
    assert table.loc["l_lip", "recall"] > 0


def test_a_space_that_would_lose_classes_is_refused(toy_folder, checkpoint, tmp_path):
    root = toy_folder(2)
    for file in (root / "masks").iterdir():
        Image.fromarray(np.minimum(read(file), 10)).save(file)
    with pytest.raises(UserError, match="labels of space 'celebamask' cannot be converted to 'lapa', which lacks"):
        tasks.start(settings(root, "data.label_space=lapa", f"parser.checkpoint={checkpoint}"), tmp_path / "run")

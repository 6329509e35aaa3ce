"""A parser's figures: what is drawn is what the record says, absent classes included."""

import json
import warnings

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semfacediff.cli import main
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, palette
from semfacediff.metrics.photo_counts import PhotoCounts, confusion_table, photo_counts, summary
from semfacediff.records.samples import write_csv, write_parquet
from semfacediff.tables import draw_all as drawn
from semfacediff.tables.drawing import save_figure, styled
from semfacediff.tables.parsing_figures import (
    Published,
    Strip,
    bars_figure,
    confusion_figure,
    coverage_figure,
    draw_parsing_figures,
    draw_run,
    error_map,
    published_coverage,
    published_f1,
    published_iou,
    recorded_confusion,
    strip_figure,
)
from semfacediff.tables.presence_figures import presence_figure

N = CELEBAMASK.n
HAT, NECKLACE = CELEBAMASK.index("hat"), CELEBAMASK.index("neck_l")


@pytest.fixture(autouse=True)
def strict_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def rows():
    """Five photos without hats and necklaces."""
    random = np.random.default_rng(0)
    kinds = [c for c in range(N) if c not in (HAT, NECKLACE)]
    made = []
    for i in range(5):
        truth = np.kron(random.permutation(kinds)[:16].reshape(4, 4), np.ones((8, 8), int))
        predicted = np.roll(truth, 1 + i, 1)
        made.append({"sample_id": str(i), "status": "ok", **photo_counts(truth, predicted, N)})
    return made


@pytest.fixture(scope="module")
def scores(rows):
    return summary(PhotoCounts.of(rows, N), CELEBAMASK.classes, seed=0)


@pytest.fixture(scope="module")
def confusion(rows):
    return confusion_table(PhotoCounts.of(rows, N).confusion, CELEBAMASK.classes)


@pytest.fixture
def run(tmp_path, rows, scores, confusion):
    """``run(**facts)``: the folder of a finished parsing run."""

    def make(**facts):
        folder = tmp_path / "run"
        folder.mkdir()
        plain = {
            "schema_version": 1,
            "status": "done",
            "task": "parsing",
            "n": 5,
            "parser": {"name": "fastscnn_lite"},
            "identity": {"config": {"protocol": "strict", "parser": {"name": "fastscnn_lite"}}},
        }
        (folder / "run.json").write_text(json.dumps(plain | facts))
        write_csv(scores, folder / "summary.csv")
        write_csv(confusion, folder / "confusion.csv")
        write_parquet(pd.DataFrame(rows), folder / "samples.parquet")
        return folder

    return make


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend(figure):
    owner = figure.legends[0] if figure.legends else figure.axes[0].get_legend()
    return [text.get_text() for text in owner.get_texts()]


class TestCoverage:
    def test_ours_stand_beside_the_published(self, scores, repository):
        published = published_coverage(repository)
        axes = coverage_figure(scores, published, "ours").axes[0]
        ours, theirs = axes.containers
        assert ticks(axes.yaxis)[:3] == ["hair", "background", "skin"], "the thesis's order, largest first"
        pixels = scores.set_index("class")["pixels"].astype(float).loc[list(CELEBAMASK.classes)]
        drawn = dict(zip(ticks(axes.yaxis), (bar.get_width() for bar in ours), strict=True))
        assert drawn == pytest.approx((100 * pixels / pixels.sum()).to_dict())
        assert [bar.get_width() for bar in theirs] == published.sort_values(ascending=False, kind="stable").tolist()
        assert "31.62" in {text.get_text() for text in axes.texts}

    def test_shares_add_up(self, scores, repository):
        for bars in coverage_figure(scores, published_coverage(repository), "ours").axes[0].containers:
            assert sum(bar.get_width() for bar in bars) == pytest.approx(100, abs=0.5)

    def test_without_published_numbers_ours_are_ranked(self, scores):
        figure = coverage_figure(scores, None, "ours")
        (bars,) = figure.axes[0].containers
        widths = [bar.get_width() for bar in bars]
        assert widths == sorted(widths, reverse=True)
        assert legend(figure) == ["ours"]


class TestBars:
    def test_ious_with_their_intervals_and_the_published_ones(self, scores, repository):
        published = published_iou(repository)
        figure = bars_figure(scores, "iou", published, "ours", "strict")
        axes = figure.axes[0]
        bars = next(c for c in axes.containers if hasattr(c, "patches"))
        table = scores.set_index("class")
        expected = 100 * table.loc[[*CELEBAMASK.classes, "miou"], "iou"].fillna(0).to_numpy(float)
        assert [bar.get_height() for bar in bars] == pytest.approx(expected)
        names = ["SegFormer (CE7454)", "U-Net (CE7454)", "DeepLabV3Plus (CE7454)", "FastSCNN (CE7454)"]
        assert legend(figure) == ["ours", *names, "95 % interval"]
        lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
        assert lines["FastSCNN (CE7454)"][[0, HAT, -1]].tolist() == [89.17, 55.87, 70.62]
        (whiskers,) = (c for c in axes.containers if not hasattr(c, "patches"))
        segments = np.array(whiskers.lines[2][0].get_segments())[:, :, 1]
        there = table.loc[[*CELEBAMASK.classes, "miou"], ["iou_low", "iou_high"]].dropna().to_numpy(float)
        assert segments == pytest.approx(100 * there, abs=1e-6)

    def test_absent_classes_say_so(self, scores):
        names = ticks(bars_figure(scores, "iou", [], "ours", "strict").axes[0].xaxis)
        assert [n for n in names if "absent" in n] == ["hat (absent)", "neck_l (absent)"]
        assert names[-1] == "mean"

    def test_f1_beside_segfaces(self, scores, repository):
        figure = bars_figure(scores, "f1", published_f1(repository), "ours", "segface")
        assert legend(figure) == ["ours", "SegFace 512", "FP-LIIF 512"]
        line = next(line for line in figure.axes[0].get_lines() if line.get_label() == "SegFace 512")
        assert np.isnan(line.get_ydata()[0]), "no published F1 of the background"
        assert line.get_ydata()[NECKLACE] == 63.4
        assert line.get_ydata()[-1] == 88.96
        assert figure.axes[0].get_ylabel() == "F1 (%), protocol segface"

    def test_a_record_without_intervals_has_no_whiskers(self, scores):
        figure = bars_figure(scores.drop(columns=["iou_low", "iou_high"]), "iou", [], "ours", "strict")
        assert legend(figure) == ["ours"]

    def test_markers_of_near_values_stand_side_by_side(self, scores):
        same = [Published(str(k), pd.Series({"skin": 50.0}), 50.0) for k in range(4)]
        lines = bars_figure(scores, "f1", same, "ours", "strict").axes[0].get_lines()
        assert len({line.get_xdata()[1] for line in lines if line.get_label() in "0123"}) == 4

    def test_more_results_than_markers_are_refused(self, scores):
        with pytest.raises(ValueError, match="expected at most 4 results, got 5"):
            bars_figure(scores, "f1", [Published("x", pd.Series(dtype=float), 1.0)] * 5, "ours", "strict")


class TestConfusion:
    def test_rows_are_shares_of_the_true_class(self, confusion):
        axes = confusion_figure(confusion, "ours").axes[0]
        shown = np.ma.filled(axes.get_images()[0].get_array().astype(float), np.nan)
        counts = confusion.drop(columns="truth").to_numpy(float)
        assert np.isnan(shown[[HAT, NECKLACE]]).all(), "absent: no share"
        present = [c for c in range(N) if c not in (HAT, NECKLACE)]
        assert shown[present] == pytest.approx(100 * counts[present] / counts[present].sum(1, keepdims=True))
        assert ticks(axes.yaxis) == ticks(axes.xaxis) == list(CELEBAMASK.classes)
        cells = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in axes.texts}
        assert cells[1, 1] == f"{shown[1, 1]:.0f}"

    def test_an_older_record_gives_the_same_matrix(self, run, confusion):
        folder = run()
        classes = list(CELEBAMASK.classes)
        written = recorded_confusion(folder, classes)
        (folder / "confusion.csv").unlink()
        assert recorded_confusion(folder, classes).equals(written)
        assert written.equals(confusion)
        (folder / "samples.parquet").unlink()
        assert recorded_confusion(folder, classes) is None


class TestStrips:
    def test_a_row_a_photo_and_the_colours_of_the_classes_below(self):
        truth = np.zeros((20, 30), np.uint8)
        truth[5:15] = 13
        photo = np.full((40, 60, 3), 90, np.uint8)
        figure = strip_figure(
            [Strip("best: a", photo, truth, truth), Strip("worst: b", photo, truth, 0 * truth)], CELEBAMASK
        )
        assert [ax.get_title() for ax in figure.axes[:4]] == ["photo", "truth", "prediction", "error"]
        assert [figure.axes[k].get_ylabel() for k in (0, 4)] == ["best: a", "worst: b"]
        assert legend(figure) == ["background", "hair"]
        truth_shown, predicted_shown = (figure.axes[k].get_images()[0].get_array() for k in (5, 6))
        assert truth_shown[192, 192].tolist() == palette(CELEBAMASK)[13].tolist()
        assert predicted_shown[192, 192].tolist() == palette(CELEBAMASK)[0].tolist()

    def test_errors_are_darker_than_everything_else(self):
        photo = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        truth = np.zeros((9, 8), int)
        predicted = truth.copy()
        predicted[2:4, 3:6] = 1
        luma = error_map(photo, truth, predicted) @ np.array([0.299, 0.587, 0.114])
        wrong = truth != predicted
        assert luma[wrong].max() < 60
        assert luma[~wrong].min() > 120
        assert np.ptp(luma[~wrong]) > 60, "the photo can still be made out"


class TestPresence:
    """SegFace, figure 1."""

    def made(self, scores, repository):
        return presence_figure(scores, 5, published_f1(repository), "ours", "segface")

    def test_classes_stand_by_how_often_they_occur(self, scores, rows, repository):
        left, right = self.made(scores, repository).axes
        share = dict(zip(ticks(left.xaxis), right.lines[0].get_ydata(), strict=True))
        assert list(share.values()) == sorted(share.values(), reverse=True)
        present = scores.set_index("class")["images"]
        assert share == {c: present[c] / 5 for c in CELEBAMASK.classes[1:]}
        assert (share["hat"], share["neck_l"]) == (0, 0)
        assert min(v for c, v in share.items() if c not in ("hat", "neck_l")) > 0
        assert right.get_ylabel() == "share of the 5 photos with the class"

    def test_f1_is_the_records_and_the_papers(self, scores, repository):
        left, _ = self.made(scores, repository).axes
        ours, segface = (dict(zip(ticks(left.xaxis), line.get_ydata(), strict=True)) for line in left.lines[:2])
        f1 = scores.set_index("class")["f1"]
        assert ours["skin"] == pytest.approx(100 * f1["skin"])
        assert np.isnan(ours["hat"]), "a class of no photo has no F1"
        assert (segface["hat"], segface["neck_l"]) == (89.3, 63.4)

    def test_a_run_has_it_beside_its_other_figures(self, run, tmp_path, repository, monkeypatch):
        monkeypatch.setattr(drawn, "draw_run", lambda *_: None)
        drawn.draw(run(), tmp_path / "figures", repository)
        assert {f.name for f in (tmp_path / "figures").iterdir()} == {"f1_by_presence.png", "f1_by_presence.pdf"}


class TestFiles:
    def test_every_figure_as_png_and_pdf_from_the_record_alone(self, run, tmp_path, repository):
        draw_run(run(), tmp_path / "figures", repository)
        files = sorted(file.name for file in (tmp_path / "figures").iterdir())
        assert files == sorted(
            f"{n}.{s}" for n in ("class_f1", "class_iou", "confusion", "coverage") for s in ("pdf", "png")
        )
        for png in (tmp_path / "figures").glob("*.png"):
            with Image.open(png) as image:
                assert len(np.unique(np.asarray(image.convert("RGB"))[::5, ::5] @ np.array([1 << 16, 1 << 8, 1]))) > 30
        assert all(pdf.read_bytes().startswith(b"%PDF") for pdf in (tmp_path / "figures").glob("*.pdf"))

    def test_the_same_record_gives_the_same_files(self, confusion, tmp_path):
        for name in ("a", "b"):
            save_figure(confusion_figure(confusion, "ours"), tmp_path / name)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
        assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
        assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()

    def test_a_checkout_without_published_numbers_draws_ours(self, run, tmp_path, monkeypatch):
        monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, file, **_: file.touch())
        draw_parsing_figures(run(), tmp_path / "figures", tmp_path / "nowhere")
        assert (tmp_path / "figures" / "class_iou.png").exists()

    def test_a_users_style_changes_nothing(self, monkeypatch):
        import matplotlib

        monkeypatch.setitem(matplotlib.rcParams, "font.size", 30)
        with styled():
            assert matplotlib.rcParams["font.size"] == 9

    def test_a_run_that_has_not_ended_is_refused(self, run, tmp_path, repository):
        folder = run()
        (folder / "summary.csv").unlink()
        with pytest.raises(UserError, match=r"no summary\.csv, so the run has not come to its end; repeat its command"):
            draw_run(folder, tmp_path, repository)

    def test_a_run_of_edits_is_refused(self, run, tmp_path, repository):
        with pytest.raises(UserError, match=r"expected a run of train_parser\.py or task=parsing, got task editing"):
            draw_run(run(task="editing"), tmp_path, repository)


class TestCommand:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, file, **_: file.touch())

    def test_figures_go_into_the_run_or_where_they_are_wanted(self, run, tmp_path, capsys):
        folder = run()
        assert main(["figures", str(folder)]) == 0
        assert (folder / "figures" / "confusion.pdf").exists()
        assert main(["figures", str(folder), "--out", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "run" / "confusion.png").exists()
        assert capsys.readouterr().out.splitlines() == [str(folder / "figures"), str(tmp_path / "out" / "run")]

    def test_a_training_also_has_its_curves(self, run, tmp_path):
        folder = run(task="train_parser")
        pd.DataFrame({"epoch": [1], "train_loss": [1.0], "val_miou": [0.5]}).to_csv(folder / "history.csv")
        assert main(["figures", str(folder), "--out", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "run" / "curves.png").exists()

    def test_a_folder_without_a_run_is_a_mistake(self, tmp_path, capsys):
        assert main(["figures", str(tmp_path)]) == 2
        assert "run.json: not a run's record" in capsys.readouterr().err


@pytest.mark.parametrize("record", ["parsing_fastscnn", "fastscnn_256"])
def test_committed_records_still_make_figures(record, repository, tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, file, **_: file.touch())
    draw_run(repository / "results" / "runs" / record, tmp_path, repository)
    assert (tmp_path / "class_iou.pdf").exists()
    assert (tmp_path / "confusion.pdf").exists() == (record == "parsing_fastscnn")


def test_published_values_average_to_their_published_means(repository):
    """A slip in typing them would show."""
    for result in published_iou(repository):
        assert result.values.astype(float).mean() == pytest.approx(result.mean, abs=0.006), result.name
        assert set(result.values.index) == set(CELEBAMASK.classes)
    for result in published_f1(repository):
        assert result.values.astype(float).mean() == pytest.approx(result.mean, abs=0.06), result.name
    assert published_coverage(repository).sum() == pytest.approx(100, abs=0.5)

"""Figures: they are drawn, complete, and say what was not edited."""

import errno
import warnings

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, palette
from semfacediff.tables.figures import curves_figure, overlay, panel_figure, training_curves


@pytest.fixture(autouse=True)
def strict_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def row(height=64, width=48, edited=True):
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)
    return [("photo", photo), ("mask", mask), ("edit", photo[:, ::-1] if edited else None)]


@pytest.fixture
def history(tmp_path):
    file = tmp_path / "history.csv"
    pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3.0, 2.0, 1.5], "val_miou": [0.1, 0.3, 0.4]}).to_csv(file)
    return file


def pixels(file):
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def colours(file):
    return len(np.unique(pixels(file) @ np.array([1 << 16, 1 << 8, 1])))


def test_overlay_keeps_the_photo_visible_under_the_palettes_colours():
    random = np.random.default_rng(0)
    photo, labels = random.integers(0, 256, (9, 7, 3), dtype=np.uint8), random.integers(0, 19, (9, 7))
    shown = overlay(photo, labels, CELEBAMASK)
    assert shown.dtype == np.uint8
    assert np.abs(shown - (0.4 * photo + 0.6 * palette(CELEBAMASK)[labels])).max() < 1


def test_panels_grow_by_a_row_a_sample_and_a_column_a_picture(tmp_path):
    shapes = {}
    for rows, columns in ((1, 3), (3, 3), (1, 2)):
        file = tmp_path / "figures" / f"{rows}x{columns}.png"
        panel_figure([row()[:columns] for _ in range(rows)], "hair: brown", file)
        shapes[rows, columns] = pixels(file).shape
        assert colours(file) > 1000
    assert shapes[3, 3][0] > 2 * shapes[1, 3][0]
    assert shapes[1, 3][1] > 1.3 * shapes[1, 2][1]


@pytest.mark.parametrize("edited", [False, True])
def test_panels_show_every_picture_and_say_what_was_not_edited(tmp_path, monkeypatch, edited):
    shown, said, titles = [], [], []
    monkeypatch.setattr("matplotlib.axes.Axes.imshow", lambda self, image, **_: shown.append(image))
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, text, **_: said.append(text))
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda self, text, **_: titles.append(text))
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: None)
    pictures = row(256, 256, edited)
    panel_figure([pictures, pictures], "t", tmp_path / "x.png")
    expected = [picture for _, picture in pictures + pictures if picture is not None]
    assert all(np.array_equal(a, b) for a, b in zip(shown, expected, strict=True))
    assert titles == ["photo", "mask", "edit"]
    assert said == ([] if edited else 2 * ["empty region:\nnot edited"])


def test_panels_take_odd_sizes_and_odd_titles(tmp_path):
    panel_figure([row(33, 90), row(90, 33, edited=False)], "hair: costs $5 or $6, ünï", tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_curves_are_drawn(history, tmp_path):
    training_curves(history, tmp_path / "figures" / "curves.png")
    assert colours(tmp_path / "figures" / "curves.png") > 20


def test_curves_of_one_epoch(tmp_path):
    file = tmp_path / "history.csv"
    pd.DataFrame({"epoch": [1], "train_loss": [3.0], "val_miou": [0.1]}).to_csv(file)
    training_curves(file, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_figures_do_not_depend_on_the_users_display(history, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    training_curves(history, tmp_path / "curves.png")


@pytest.mark.parametrize("kind", ["panels", "curves"])
def test_full_disk_is_an_error(history, tmp_path, monkeypatch, kind):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", full)
    file = tmp_path / "x.png"
    with pytest.raises(UserError, match=r"cannot write .*x\.png \(No space left on device\)"):
        training_curves(history, file) if kind == "curves" else panel_figure([row()], "t", file)


def phases():
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4, 5],
            "train_loss": [3.0, 2.0, 1.5, 1.2, 1.1],
            "val_loss": [3.1, 2.5, 2.0, 2.1, 2.2],
            "train_miou": [0.1, 0.3, 0.4, 0.5, 0.6],
            "val_miou": [0.1, 0.2, 0.3, 0.35, 0.33],
            "lr": [1e-3, 8e-4, 2e-2, 2e-2, 1e-2],
            "phase": ["adam", "adam", "sgd 0.02", "sgd 0.02", "sgd 0.01"],
        }
    )


def test_curves_are_the_historys():
    loss, miou, rate = curves_figure(phases()).axes
    drawn = {line.get_label(): line for line in loss.get_lines()}
    assert drawn["train loss"].get_ydata().tolist() == [3.0, 2.0, 1.5, 1.2, 1.1]
    assert drawn["val loss (best 2, epoch 3)"].get_ydata().tolist() == [3.1, 2.5, 2.0, 2.1, 2.2]
    drawn = {line.get_label(): line for line in miou.get_lines()}
    assert drawn["val miou (best 35, epoch 4)"].get_ydata().tolist() == pytest.approx([10, 20, 30, 35, 33])
    assert drawn["train miou"].get_linestyle() != drawn["val miou (best 35, epoch 4)"].get_linestyle()
    assert (
        next(line for line in rate.get_lines() if line.get_label() == "lr").get_ydata().tolist()
        == phases()["lr"].tolist()
    )
    assert rate.get_yscale() == "log"


def test_optimiser_switches_are_marked_between_the_epochs():
    for axes in curves_figure(phases()).axes:
        vertical = [
            line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1 < len(line.get_xdata())
        ]
        assert vertical == [2.5, 4.5]
        assert [(t.get_text(), t.get_position()[0]) for t in axes.texts] == [
            ("adam", 1),
            ("sgd 0.02", 2.5),
            ("sgd 0.01", 4.5),
        ]


def test_curves_show_what_the_history_has(history):
    loss, miou = curves_figure(pd.read_csv(history)).axes
    assert (loss.get_ylabel(), miou.get_ylabel()) == ("loss", "mean IoU (%)")
    assert not loss.texts
    assert not [line for line in loss.get_lines() if len(set(line.get_xdata())) == 1]


def test_epochs_without_a_validation_are_left_out_of_its_curve():
    gaps = phases().assign(val_miou=[np.nan, 0.2, np.nan, 0.4, np.nan], val_loss=np.nan)
    loss, miou, _ = curves_figure(gaps).axes
    assert next(line.get_label() for line in loss.get_lines()) == "train loss"
    assert not any("val" in str(line.get_label()) for line in loss.get_lines())
    line = next(line for line in miou.get_lines() if str(line.get_label()).startswith("val miou"))
    assert line.get_xdata().tolist() == [2, 4]


def test_curves_are_also_a_pdf(history, tmp_path):
    training_curves(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")

"""Lines of a training: scores in per cent, and the time that is left."""

from pathlib import Path

import pytest

from semfacediff.tasks.training.progress_lines import ProgressLines, duration, scores


def test_scores_are_shares_in_per_cent_and_what_is_absent_is_not_named():
    row = {
        "epoch": 2,
        "train_loss": 0.39137001,
        "lr": 0.003,
        "val_loss": 0.28694,
        "val_miou": 0.72413,
        "phase": "adamw",
    }
    assert scores(row) == "loss 0.3914, validation loss 0.2869, learning rate 0.003, mIoU 72.41 %"
    assert scores({"train_loss": 1.0, "val_miou": None, "val_long_tail": 0.05}) == "loss 1, rare accessories 5.00 %"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(7.4, "7 s"), (40, "40 s"), (89.6, "90 s"), (600, "10 min"), (720, "12 min"), (7500, "2 h 5 min")],
)
def test_duration(seconds, said):
    assert duration(seconds) == said


def test_time_left_is_that_of_this_sitting(capsys):
    lines = ProgressLines("epoch", 10, Path("run/figures/curves.png"))
    for done, clock in ((5, 1000.0), (6, 1060.0), (8, 1300.0), (10, 1500.0)):
        lines.show(done, {"train_loss": 0.5}, clock)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 5/10: loss 0.5; curves: run/figures/curves.png",
        "epoch 6/10: loss 0.5; 4 min left",
        "epoch 8/10: loss 0.5; 3 min left",
        "epoch 10/10: loss 0.5",
    ]

"""Published validation losses drive the pipeline to the published switches; its rates are torch's."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch.optim.lr_scheduler import CosineAnnealingLR

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.tasks.training.plateau import AdamThenSGD, Decision

CURVES = Path(__file__).parents[2] / "fixtures" / "ce7454_curves"
PUBLISHED = {
    "segformer": (50, [48, 61, 73, 85], 49, 0.20704),
    "unet": (25, [49, 82, 94, 120], 111, 0.26730),
}
"""Network: T_max of its SGD phases, last epoch of each phase, best epoch and its validation loss (CE7454 report)."""


REPORT = {
    "name": "adam_then_sgd",
    "adam_lr": 1e-3,
    "adam_eta_min": 5e-4,
    "adam_t_max": 50,
    "sgd_lr": 0.02,
    "min_sgd_lr": 0.005,
    "sgd_t_max": 25,
    "sgd_momentum": 0.5,
    "weight_decay": 1e-7,
    "patience": 12,
}
"""The report's values."""


def new(state=None, max_epochs=120, **changed):
    return AdamThenSGD(config.AdamThenSGDConfig(**REPORT | changed), max_epochs, state)


def continued(pipeline, state):
    return AdamThenSGD(pipeline.settings, pipeline.max_epochs, state)


def curve(name):
    with open(CURVES / f"{name}.csv", newline="") as f:
        return [float(row["Val Loss"]) for row in csv.DictReader(f)]


def replayed(pipeline, values):
    """(epoch, rate in it, decision after it) until the pipeline stops or the losses end."""
    epochs = []
    for epoch, loss in enumerate(values, start=1):
        rate = pipeline.learning_rate
        epochs.append((epoch, rate, pipeline.observe(loss)))
        if pipeline.state()["stopped"]:
            break
    return epochs


@pytest.fixture(params=PUBLISHED)
def published(request):
    t_max, ended, best_epoch, best_loss = PUBLISHED[request.param]
    return {"sgd_t_max": t_max}, curve(request.param), ended, best_epoch, best_loss


def test_published_curves_switch_and_stop_where_they_did(published):
    settings, losses, ended, best_epoch, best_loss = published
    pipeline = new(**settings)
    epochs = replayed(pipeline, losses)
    switches = [(epoch, d.next_phase) for epoch, _, d in epochs if d.next_phase]
    assert [epoch for epoch, _ in switches] == ended[:-1]
    assert [(p.optimiser, p.lr, p.eta_min, p.momentum) for _, p in switches] == [
        ("sgd", 0.02, 0.01, 0.5),
        ("sgd", 0.01, 0.005, 0.5),
        ("sgd", 0.005, 0.0025, 0.5),
    ]
    assert [epoch for epoch, _, d in epochs if d.stop] == [ended[-1]] == [len(losses)]
    state = pipeline.state()
    assert state["ended"] == ended
    assert pipeline.phase.lr == 0.005
    assert state["best_epoch"] == best_epoch == max(epoch for epoch, _, d in epochs if d.new_best)
    assert state["best_loss"] == pytest.approx(best_loss, abs=5e-6) == min(losses)


def test_the_rates_of_a_published_run_are_those_of_torchs_schedulers(published):
    """Built as in the report: a scheduler stepped after each epoch, made anew with each optimiser."""
    settings, losses, ended, _, _ = published

    def made(number):
        w = [torch.nn.Parameter(torch.zeros(1))]
        if number == 0:
            optimiser = torch.optim.Adam(w, lr=1e-3)
            return optimiser, CosineAnnealingLR(optimiser, 50, eta_min=5e-4)
        lr = (0.02, 0.01, 0.005)[number - 1]
        optimiser = torch.optim.SGD(w, lr=lr)
        return optimiser, CosineAnnealingLR(optimiser, settings["sgd_t_max"], eta_min=lr / 2)

    expected, number = [], 0
    optimiser, scheduler = made(0)
    for epoch in range(1, len(losses) + 1):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
        if epoch in ended[:-1]:
            number += 1
            optimiser, scheduler = made(number)
    rates = [rate for _, rate, _ in replayed(new(**settings), losses)]
    assert rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_cosine_climbs_again_as_torchs_does(number):
    phase = new({"ended": list(range(number))}, patience=1).phase
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=phase.lr)
    scheduler = CosineAnnealingLR(optimiser, phase.t_max, eta_min=phase.eta_min)
    for epoch in range(3 * phase.t_max):
        assert phase.rate(epoch) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        scheduler.step()
    assert phase.rate(0) == phase.rate(2 * phase.t_max) == phase.lr
    assert phase.rate(phase.t_max) == pytest.approx(phase.eta_min)


def test_an_interruption_after_any_epoch_changes_nothing(published):
    settings, losses, *_ = published
    expected = replayed(new(**settings), losses)
    pipeline, found = new(**settings), []
    for epoch, loss in enumerate(losses, start=1):
        pipeline = continued(pipeline, json.loads(json.dumps(pipeline.state())))
        rate = pipeline.learning_rate
        found.append((epoch, rate, pipeline.observe(loss)))
    assert found == expected
    assert continued(pipeline, pipeline.state()).state()["stopped"]


def test_a_state_stays_as_it_was_when_the_pipeline_goes_on():
    pipeline = new(patience=1)
    state = pipeline.state()
    replayed(continued(pipeline, state), [1.0, 1.0, 1.0])
    assert state == pipeline.state()


def test_an_equal_loss_is_no_progress_and_a_lower_one_starts_the_count_anew():
    pipeline = new(patience=3)
    decisions = [d for *_, d in replayed(pipeline, [1.0, 1.0, 1.0, 0.9, 0.9, 0.95, 0.9])]
    best, on = Decision(new_best=True), Decision()
    assert decisions[:6] == [best, on, on, best, on, on]
    assert decisions[6].next_phase == pipeline.phase
    assert not decisions[6].stop


def test_the_best_loss_is_kept_across_phases_and_the_count_is_not():
    pipeline = new(patience=2)
    decisions = [d for *_, d in replayed(pipeline, [0.5, 0.6, 0.6, 0.55, 0.55])]
    assert [d.new_best for d in decisions] == [True, False, False, False, False]
    assert pipeline.state()["ended"] == [3, 5]
    assert pipeline.state()["best_epoch"] == 1


def test_the_last_epoch_may_be_the_best_and_stops_all_the_same():
    decisions = [d for *_, d in replayed(new(max_epochs=3), [3.0, 2.0, 1.0, 0.5])]
    assert decisions == [Decision(new_best=True), Decision(new_best=True), Decision(new_best=True, stop=True)]


def test_the_last_epoch_stops_where_it_would_have_switched():
    decisions = [d for *_, d in replayed(new(patience=2, max_epochs=3), [1.0] * 9)]
    assert decisions[-1] == Decision(stop=True)


@pytest.mark.parametrize(("min_sgd_lr", "phases"), [(0.03, 1), (0.02, 2), (0.006, 3), (0.005, 4), (0.001, 6)])
def test_no_phase_starts_below_the_lowest_rate(min_sgd_lr, phases):
    pipeline = new(patience=1, min_sgd_lr=min_sgd_lr)
    replayed(pipeline, [1.0] * 50)
    assert pipeline.state()["ended"] == list(range(2, 2 + phases))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_and_leaves_no_trace(loss):
    pipeline = new()
    pipeline.observe(1.0)
    before = pipeline.state()
    with pytest.raises(UserError, match=f"expected a finite validation loss, got {loss} after epoch 2; lower"):
        pipeline.observe(loss)
    assert pipeline.state() == before


def test_after_the_end_there_is_nothing_to_observe():
    pipeline = new(max_epochs=1)
    assert pipeline.observe(1.0).stop
    with pytest.raises(RuntimeError, match="stopped after epoch 1"):
        pipeline.observe(0.5)


def test_the_vocabulary_says_the_reports_values_too(repository):
    written = yaml.safe_load((repository / "conf" / "optim" / "adam_then_sgd.yaml").read_text())
    assert written == REPORT

"""Losses against torch, published values and definitions; neither shares nor ignored pixels must show.

Values are compared in float64, where the order of a sum does not show; float32 has tests of its own.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.tasks.training import losses
from semfacediff.tasks.training.losses import IGNORED, build_loss, class_weights, count_pixels

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLASSES = 5
LOSSES = {
    "cross_entropy": {"cross_entropy": 1.0, "label_smoothing": 0.1},
    "focal": {"focal": 1.0},
    "dice": {"dice": 1.0},
    "segface_dice": {"dice": 1.0, "dice_form": "segface"},
    "lovasz": {"lovasz": 1.0},
    "sum": {"cross_entropy": 0.3, "focal": 2.0, "dice": 0.5, "lovasz": 1.0},
}


def settings(**changes):
    plain = dict.fromkeys(("cross_entropy", "dice", "focal", "lovasz", "label_smoothing"), 0.0)
    plain |= {"dice_form": "pooled", "focal_gamma": 2.0, "class_weights": "none", "class_weight_batches": 1}
    return config.LossConfig(**(plain | {"effective_number_beta": 0.9} | changes))


def loss(weights=None, **changes):
    return build_loss(settings(**changes), torch.ones(CLASSES) if weights is None else weights)


def with_gradient(criterion, logits, labels, **options):
    logits = logits.detach().clone().requires_grad_()
    value = criterion(logits, labels, **options)
    value.backward()
    return value.detach(), logits.grad


@pytest.fixture
def batch():
    """Three photos; a fifth of the pixels ignored, class 4 in the first photo alone."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES - 1, (3, 6, 7), generator=g)
    labels[0, 2:4, 1:5] = CLASSES - 1
    labels[torch.rand(labels.shape, generator=g) < 0.2] = IGNORED
    return torch.randn(3, CLASSES, 6, 7, generator=g) * 2, labels


@pytest.fixture
def weights():
    return torch.tensor([0.2, 1.0, 0.7, 2.0, 1.5])


@pytest.fixture(params=LOSSES)
def criterion(request, weights):
    return loss(weights, **LOSSES[request.param])


def on_one_pixel(probabilities):
    """Logits of one photo of one pixel that softmax turns into these."""
    return torch.tensor(probabilities, dtype=torch.float64).log().view(1, -1, 1, 1)


# Every loss


def test_shares_of_a_batch_make_the_loss_and_gradient_of_the_whole(criterion, batch):
    """One photo here, two there, with different numbers of ignored pixels, as on two processes."""
    logits, labels = batch
    labels[0, 4:] = IGNORED
    value, gradient = with_gradient(criterion, logits, labels)
    for mine, theirs in ((slice(1), slice(1, 3)), (slice(1, 3), slice(1))):
        elsewhere = []
        criterion(logits[theirs], labels[theirs], total=lambda s, to=elsewhere: to.append(s) or s)
        shared, share = with_gradient(
            criterion, logits[mine], labels[mine], total=lambda s, at=elsewhere: s + at.pop(0).detach()
        )
        assert not elsewhere
        torch.testing.assert_close(shared, value)
        torch.testing.assert_close(share, gradient[mine])


def test_nothing_to_learn_costs_nothing(criterion, batch):
    logits, labels = batch
    value, gradient = with_gradient(criterion, logits, torch.full_like(labels, IGNORED))
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_a_photo_without_labels_changes_nothing(criterion, batch):
    logits, labels = batch
    value, gradient = with_gradient(criterion, logits, labels)
    more = (
        torch.cat([logits, torch.randn(1, *logits.shape[1:])]),
        torch.cat([labels, torch.full_like(labels[:1], IGNORED)]),
    )
    with_it, its_gradient = with_gradient(criterion, *more)
    torch.testing.assert_close(with_it, value)
    torch.testing.assert_close(its_gradient, torch.cat([gradient, torch.zeros_like(gradient[:1])]))


def test_what_is_predicted_on_ignored_pixels_does_not_matter(criterion, batch):
    logits, labels = batch
    value, gradient = with_gradient(criterion, logits, labels)
    ignored = (labels == IGNORED)[:, None]
    assert (gradient.masked_select(ignored) == 0).all()
    assert torch.equal(criterion(logits.where(~ignored, 7 * logits + 3), labels), value)


def test_neither_order_of_photos_nor_place_of_pixels_matters(criterion, batch):
    logits, labels = batch
    pixels = torch.randperm(42, generator=torch.Generator().manual_seed(1))
    moved = logits.flip(0).flatten(2)[..., pixels].view_as(logits)
    torch.testing.assert_close(
        criterion(moved, labels.flip(0).flatten(1)[:, pixels].view_as(labels)), criterion(logits, labels)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_slope(name, batch, weights):
    logits, labels = batch[0][:2, :, 1:4, :4].double(), batch[1][:2, 1:4, :4]
    criterion = loss(weights.double(), **LOSSES[name])
    assert torch.autograd.gradcheck(lambda x: criterion(x, labels), logits.requires_grad_())


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"segface_dice"}))  # where absent classes cost nearly 1
def test_sure_and_right_costs_nothing_and_sure_and_wrong_much(name):
    labels = torch.tensor([[[0, 1], [2, 3]]])
    criterion = loss(**LOSSES[name] | {"label_smoothing": 0.0})
    right = F.one_hot(labels, CLASSES).permute(0, 3, 1, 2) * 200.0
    value, gradient = with_gradient(criterion, right, labels)
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(gradient).all()
    assert criterion(-right, labels) >= 0.9


# Cross-entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs(batch, weights, smoothing, weighted):
    (logits, labels), weights = batch, weights if weighted else torch.ones(CLASSES)

    def plain(x, y):
        return F.cross_entropy(x, y, weights.to(x), ignore_index=IGNORED, label_smoothing=smoothing)

    for x, rtol, atol in ((logits, 1e-4, 1e-6), (logits.double(), 1e-12, 1e-14)):
        found = with_gradient(loss(weights.to(x), cross_entropy=1.0, label_smoothing=smoothing), x, labels)
        torch.testing.assert_close(found, with_gradient(plain, x, labels), rtol=rtol, atol=atol)


def test_published_weighted_cross_entropy():
    published = np.load(FIXTURES / "lite_parsers" / "ce7454_loss_metric.npz")
    weights = class_weights("inverse_log", torch.from_numpy(published["class_distribution"])).double()
    value = loss(weights, cross_entropy=1.0)(
        torch.from_numpy(published["logits"]).double(), torch.from_numpy(published["gt"]).long()
    )
    assert value.item() == pytest.approx(float(published["weighted_ce"]), rel=1e-6)


def test_a_label_of_no_class_is_refused(batch):
    logits, labels = batch
    labels[0, 0, 0] = CLASSES
    with pytest.raises(IndexError):
        loss(cross_entropy=1.0)(logits, labels)


# SegFace


@pytest.mark.parametrize("classes", [19, 11])
def test_published_segface_loss_and_gradient(classes, compose):
    published = np.load(FIXTURES / "segface" / "segface_loss.npz")
    logits = torch.from_numpy(published[f"logits{classes}"]).double()
    labels = torch.from_numpy(published[f"labels{classes}"]).long()
    chosen = config.typed(compose("train_parser", "loss=segface"), config.ParserTraining).loss
    value, gradient = with_gradient(build_loss(chosen, torch.ones(classes, dtype=torch.float64)), logits, labels)
    assert value.item() == pytest.approx(float(published[f"total{classes}"]), rel=1e-6)
    expected = torch.from_numpy(published[f"grad_total{classes}"])
    torch.testing.assert_close(gradient.float(), expected, rtol=1e-5, atol=1e-8)
    dice = losses.segface_dice(logits, labels)
    assert dice.item() == pytest.approx(float(published[f"dice{classes}"]), rel=1e-6)


# Dice


def test_dice_is_a_mean_over_the_classes_of_the_labels():
    """Three pixels, labels 0, 0, 1; class 2 takes a half here and there, but is in no label."""
    p = torch.tensor([[1.0, 0.5, 0.25], [0.0, 0.0, 0.5], [0.0, 0.5, 0.25]])
    logits = p.clamp_min(1e-30).log().view(1, 3, 1, 3)
    zero = 1 - 2 * 1.5 / (1.75 + 2)
    one = 1 - 2 * 0.5 / (0.5 + 1)
    value = loss(torch.ones(3), dice=1.0)(logits, torch.tensor([[[0, 0, 1]]]))
    assert value.item() == pytest.approx((zero + one) / 2)


def test_dice_pools_its_sums_over_the_batch(batch):
    logits, labels = batch
    p, y = logits.double().softmax(1).numpy(), labels.numpy()
    seen = y != IGNORED
    lost = []
    for c in range(CLASSES):
        pc, t = p[:, c][seen], (y == c)[seen]
        lost.append(1 - 2 * pc[t].sum() / (pc.sum() + t.sum()))
    assert loss(dice=1.0)(logits.double(), labels).item() == pytest.approx(np.mean(lost), rel=1e-12)


# Focal


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_looks_away_from_what_is_right(gamma):
    logits = on_one_pixel([0.5, 0.1, 0.2, 0.1, 0.1])
    value = loss(torch.ones(5).double(), focal=1.0, focal_gamma=gamma)(logits, torch.tensor([[[2]]]))
    assert value.item() == pytest.approx(0.8**gamma * -np.log(0.2), rel=1e-12)


def test_focal_without_gamma_is_cross_entropy(batch, weights):
    focal = with_gradient(loss(weights, focal=1.0, focal_gamma=0.0), *batch)
    torch.testing.assert_close(focal, with_gradient(loss(weights, cross_entropy=1.0), *batch))


def test_focal_of_two_classes_is_torchvisions(batch):
    z, labels = batch[0][:, 0], (batch[1] == 0).long()
    value = loss(torch.ones(2), focal=1.0)(torch.stack([torch.zeros_like(z), z], 1), labels)
    torch.testing.assert_close(value, sigmoid_focal_loss(z, labels.float(), alpha=-1, gamma=2.0, reduction="mean"))


def test_a_sure_pixel_has_a_finite_slope_under_a_root():
    _, gradient = with_gradient(
        loss(focal=1.0, focal_gamma=0.5), torch.tensor([0.0, 0, 0, 0, 300]).view(1, 5, 1, 1), torch.tensor([[[4]]])
    )
    assert torch.equal(gradient, torch.zeros_like(gradient))


# Lovasz


def lovasz_by_definition(errors, truth):
    """Integral over t in [0, 1] of the Jaccard loss of the pixels whose error exceeds t."""
    total, below = 0.0, 0.0
    for t in sorted(set(errors)):
        wrong = {i for i, e in enumerate(errors) if e > below}
        total += (t - below) * len(wrong) / len(wrong | truth)
        below = t
    return total


def test_lovasz_is_the_integral_it_is_defined_as(batch):
    logits, labels = batch
    p, photos = logits.double().softmax(1), []
    for i in range(3):
        flat = [(q, int(y)) for q, y in zip(p[i].flatten(1).T, labels[i].flatten(), strict=True) if y != IGNORED]
        classes = []
        for c in sorted({y for _, y in flat}):
            truth = {k for k, (_, y) in enumerate(flat) if y == c}
            classes.append(lovasz_by_definition([abs(float(q[c]) - (y == c)) for q, y in flat], truth))
        photos.append(np.mean(classes))
    assert len({int((labels[i] == CLASSES - 1).any()) for i in range(3)}) == 2
    assert loss(lovasz=1.0)(logits.double(), labels).item() == pytest.approx(np.mean(photos), rel=1e-12)


def test_lovasz_of_sure_answers_is_one_minus_iou():
    labels = torch.tensor([[[0, 0, 0, 1, 1, IGNORED]]])
    predicted = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    logits = F.one_hot(predicted, 3).permute(0, 3, 1, 2) * 200.0
    ious = [2 / 3, 1 / 3]
    assert loss(torch.ones(3), lovasz=1.0)(logits, labels).item() == pytest.approx(1 - np.mean(ious))


def test_lovasz_keeps_its_precision_over_many_pixels():
    """A float32 difference of Jaccard losses of 400,000 pixels would be noise."""
    g = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(1, 2, 400, 1000, generator=g), torch.randint(2, (1, 400, 1000), generator=g)
    value, gradient = with_gradient(loss(torch.ones(2), lovasz=1.0), logits, labels)
    exact, slope = with_gradient(loss(torch.ones(2), lovasz=1.0), logits.double(), labels)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    off = (gradient - slope).abs().sum() / slope.abs().sum()
    assert off < 1e-5


# Sums of them


def test_a_sum_adds_its_terms_by_their_factors(batch, weights):
    parts = {name: loss(weights, **{name: 1.0})(*batch) for name in ("cross_entropy", "focal", "dice", "lovasz")}
    expected = sum(LOSSES["sum"][name] * part for name, part in parts.items())
    torch.testing.assert_close(loss(weights, **LOSSES["sum"])(*batch), expected)


def test_a_term_of_factor_zero_is_not_computed(batch, monkeypatch):
    monkeypatch.setattr(losses, "lovasz_softmax", None)
    assert loss(cross_entropy=1.0)(*batch) > 0
    with pytest.raises(TypeError):
        loss(lovasz=0.1)(*batch)


def test_every_choice_is_another_loss(batch, repository, compose):
    files = sorted(f.stem for f in (repository / "conf" / "loss").glob("*.yaml"))
    chosen = {f: config.typed(compose("train_parser", f"loss={f}"), config.ParserTraining).loss for f in files}
    values = {build_loss(c, torch.ones(CLASSES))(*batch).item() for c in chosen.values()}
    assert len(values) == len(files) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "loss: expected a positive factor for at least one of cross_entropy, dice, focal, lovasz, got 0 for all"),
        ({"dice": -1.0}, "greater than or equal to 0"),
        ({"dice": 1.0, "label_smoothing": 0.1}, "loss.label_smoothing=0.1 acts on loss.cross_entropy alone"),
        ({"lovasz": 1.0, "class_weights": "inverse"}, "loss.class_weights=inverse acts on loss.cross_entropy and loss"),
        ({"focal": 1.0, "effective_number_beta": 1.0}, "less than 1"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


# Class weights


def test_published_class_weights(rounding):
    published = np.load(FIXTURES / "lite_parsers" / "ce7454_loss_metric.npz")
    weights = class_weights("inverse_log", torch.from_numpy(published["class_distribution"]))
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights, published["class_weights"], rtol=rounding(len(weights)))
    assert weights.double().sum().item() == pytest.approx(1, rel=rounding(len(weights)))


@pytest.mark.parametrize(("kind", "power"), [("inverse", -1.0), ("inverse_sqrt", -0.5)])
def test_weights_are_powers_of_the_frequency_with_mean_one(kind, power):
    counts = torch.tensor([1000, 100, 10, 1])
    weights = class_weights(kind, counts)
    assert weights.dtype == torch.float32
    assert weights.mean().item() == pytest.approx(1)
    ratio = (weights / weights[0]).tolist()
    assert ratio == pytest.approx([(c / 1000) ** power for c in (1000, 100, 10, 1)], rel=1e-5)


def test_effective_numbers_are_the_papers_sums(rounding):
    """E(n) = 1 + beta + ... + beta^(n-1)."""
    counts = [1, 2, 3, 40]
    raw = [1 / sum(0.9**k for k in range(n)) for n in counts]
    weights = class_weights("effective_number", torch.tensor(counts), beta=0.9)
    assert weights.tolist() == pytest.approx([4 * r / sum(raw) for r in raw], rel=rounding(len(counts) + 8))


def test_effective_numbers_lie_between_no_weights_and_inverse():
    counts = torch.tensor([10**9, 10**6, 10**4, 100])
    near = class_weights("effective_number", counts, beta=1 - 1e-13)
    torch.testing.assert_close(near, class_weights("inverse", counts), rtol=1e-3, atol=0)
    torch.testing.assert_close(class_weights("effective_number", counts, beta=1e-9), torch.ones(4))
    default = class_weights("effective_number", counts)
    assert (default.diff() > 0).all()
    assert default[1] / default[0] == pytest.approx(1 / (1 - np.exp(-1)), rel=1e-5)  # 10^6 pixels at 1 - 10^-6


def test_no_weights_are_ones():
    assert class_weights("none", torch.tensor([5, 0, 1])).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["inverse", "inverse_sqrt", "inverse_log", "effective_number"])
def test_a_class_never_seen_weighs_as_much_as_the_rarest(kind):
    weights = class_weights(kind, torch.tensor([1000, 0, 10]))
    assert torch.isfinite(weights).all()
    assert weights[1] == weights[2] > weights[0] > 0


def test_one_pixel_does_not_outweigh_everything():
    weights = class_weights("inverse_log", torch.tensor([1000, 1, 10]))
    assert weights[1] == weights[2] < 1


@pytest.mark.parametrize("kind", ["inverse", "inverse_sqrt", "inverse_log", "effective_number"])
def test_weights_of_nothing_are_refused(kind):
    with pytest.raises(UserError, match="expected labelled pixels, counted none; raise loss"):
        class_weights(kind, torch.zeros(3, dtype=torch.int64))


def test_pixels_are_counted_over_batches_without_ignored_ones():
    first = torch.tensor([[[0, 1], [1, 2], [IGNORED, IGNORED]]], dtype=torch.uint8)
    counts = count_pixels([(None, first), (None, torch.full((1, 2, 2), 4).byte())], 6)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [1, 2, 1, 0, 4, 0]

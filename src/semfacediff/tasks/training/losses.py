"""What a training minimises: cross-entropy, Dice, focal and Lovasz losses, sums of them, and class weights.

Every loss is the loss of the *global* batch: a function of sums over photos or pixels, each of which goes through
``total``, which adds up the shares of all processes. So the value, and with it the gradient, does not depend on how a
batch is divided. Pixels of value :data:`IGNORED` count nowhere; a batch of nothing else costs 0 with zero gradient.

Logits are float32 ``[N, C, H, W]``, labels int64 ``[N, H, W]``, class weights float32 ``[C]`` throughout.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from semfacediff import config
from semfacediff.errors import UserError

IGNORED = 255
"""Label of pixels that no loss looks at."""
SEGFACE_SMOOTH = 1e-5
EFFECTIVE_NUMBER_BETA = 0.999999
"""A class grows lighter with its pixels up to about 1 / (1 - beta) of them. The paper's 0.999 and 0.9999 are for
numbers of photos; of pixels nearly every class has more than such a beta can tell apart."""

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes, differentiably."""
Criterion = Callable[..., Tensor]


def own(share: Tensor) -> Tensor:
    """The :data:`Total` of one process."""
    return share


def build_loss(settings: config.LossConfig, weights: Tensor) -> Criterion:
    """``criterion(logits, labels, total=own)``: the weighted sum of the terms that ``settings`` asks for, a scalar.

    Args:
        settings: the terms' factors and shapes, by the names of ``conf/loss/cross_entropy.yaml``.
        weights: of the classes, on the device of the logits; cross-entropy and focal loss use them.
    """
    dice = {"pooled": pooled_dice, "segface": segface_dice}[settings.dice_form]
    terms = (
        (settings.cross_entropy, partial(cross_entropy, weights=weights, label_smoothing=settings.label_smoothing)),
        (settings.dice, dice),
        (settings.focal, partial(focal, weights=weights, gamma=settings.focal_gamma)),
        (settings.lovasz, lovasz_softmax),
    )
    active = [(factor, term) for factor, term in terms if factor > 0]

    def criterion(logits: Tensor, labels: Tensor, total: Total = own) -> Tensor:
        return torch.stack([factor * term(logits, labels, total=total) for factor, term in active]).sum()

    return criterion


def _quotient(sums: Tensor) -> Tensor:
    """``sums[0] / sums[1]``, and 0 (with zero gradient) where there was nothing to sum."""
    return sums[0] / sums[1].where(sums[1] > 0, 1)


def _weight_sum(labels: Tensor, weights: Tensor) -> Tensor:
    seen = labels != IGNORED
    return weights[labels.where(seen, 0)].where(seen, 0).sum()


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0, total: Total = own
) -> Tensor:
    """``torch.nn.functional.cross_entropy``: the sum over pixels divided by the sum of their weights."""
    # A row of classes a pixel: as channels-last logits lie in memory. And summed here: the reduction inside has no
    # deterministic kernel on CUDA.
    rows, truth = logits.movedim(1, -1).flatten(0, -2), labels.flatten()
    pixels = F.cross_entropy(
        rows, truth, weights, ignore_index=IGNORED, reduction="none", label_smoothing=label_smoothing
    )
    return _quotient(total(torch.stack([pixels.sum(), _weight_sum(labels, weights)])))


def focal(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float, total: Total = own) -> Tensor:
    """Cross-entropy with each pixel's part times ``(1 - p) ** gamma``, p of its true class (Lin et al. 2017).

    The weights are the paper's alpha. Divided by the sum of the weights like cross-entropy, which it is at gamma 0.
    """
    surprise = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")  # -log p, 0 where ignored
    # A sure pixel's 1 - p may round to 0, where a root has no finite slope.
    doubt = (-torch.expm1(-surprise)).clamp_min(torch.finfo(surprise.dtype).tiny)
    seen = labels != IGNORED
    pixels = weights[labels.where(seen, 0)] * doubt**gamma * surprise
    return _quotient(total(torch.stack([pixels.sum(), _weight_sum(labels, weights)])))


def _truth(labels: Tensor, classes: int) -> Tensor:
    """bool ``[N, C, H, W]``; an ignored pixel is of no class."""
    return labels[:, None] == torch.arange(classes, device=labels.device).view(1, -1, 1, 1)


def pooled_dice(logits: Tensor, labels: Tensor, total: Total = own) -> Tensor:
    """Mean over the classes of the batch's labels of ``1 - 2 sum(p t) / (sum(p) + sum(t))``.

    The sums run over all pixels of the batch: a thin class then has one well-defined score instead of one a photo. A
    class that no label shows does not enter. Its quotient is 0 whatever is predicted; in the mean it would teach
    nothing and water down the others.
    """
    seen, truth = (labels != IGNORED)[:, None], _truth(labels, logits.shape[1])
    p = logits.softmax(1).where(seen, 0)
    over = (0, 2, 3)
    shared, soft, hard = total(torch.stack([p.where(truth, 0).sum(over), p.sum(over), truth.sum(over).to(p.dtype)]))
    present = hard > 0
    lost = (1 - 2 * shared / (soft + hard).where(present, 1)).where(present, 0)
    return _quotient(torch.stack([lost.sum(), present.sum()]))


def segface_dice(logits: Tensor, labels: Tensor, total: Total = own) -> Tensor:
    """SegFace's: squares in the denominator, smoothed, and the mean over all classes, absent ones and background too.

    ``1 - (2 sum(p t) + s) / (sum(p^2) + sum(t^2) + s)`` with s = 1e-5 and sums over the batch. An absent class costs
    nearly 1.
    """
    seen, truth = (labels != IGNORED)[:, None], _truth(labels, logits.shape[1])
    p = logits.softmax(1).where(seen, 0)
    over = (0, 2, 3)
    shared, soft, hard = total(
        torch.stack([p.where(truth, 0).sum(over), p.square().sum(over), truth.sum(over).to(p.dtype)])
    )
    return (1 - (2 * shared + SEGFACE_SMOOTH) / (soft + hard + SEGFACE_SMOOTH)).mean()


def lovasz_softmax(logits: Tensor, labels: Tensor, total: Total = own) -> Tensor:
    """A convex surrogate of 1 - IoU (Berman et al. 2018): mean over a photo's classes, then over photos.

    A photo's classes are those of its labels; a photo without any label does not enter.
    """
    seen, truth = (labels != IGNORED)[:, None], _truth(labels, logits.shape[1])
    errors = (logits.softmax(1) - truth.to(logits.dtype)).abs().where(seen, 0)
    present = truth.any(-1).any(-1)
    lost = _lovasz(errors[present].flatten(1), truth[present].flatten(1))
    photo, _ = present.nonzero(as_tuple=True)
    classes = present.sum(1)
    # Each (photo, class) counts one in so many of its photo; what is ignored has no error and so no part.
    return _quotient(total(torch.stack([(lost / classes[photo]).sum(), (classes > 0).sum().to(lost.dtype)])))


def _lovasz(errors: Tensor, truth: Tensor) -> Tensor:
    """``[K]`` Lovasz extension of the Jaccard loss; errors float ``[K, P]`` in [0, 1], truth bool ``[K, P]``.

    With pixels in falling order of error, each error is weighed by how much the Jaccard loss grows when that pixel
    joins the wrong ones. A true pixel that joins leaves the union and takes one from the intersection; another one adds
    to the union. Written out, either step is one quotient of whole numbers and free of cancellation.
    """
    errors, order = errors.sort(dim=1, descending=True)
    hit = truth.gather(1, order)
    size = truth.sum(1, keepdim=True)
    missed = hit.cumsum(1, dtype=torch.int32)  # whole numbers: exact, and deterministic on CUDA
    union = size + torch.arange(1, hit.shape[1] + 1, device=hit.device) - missed
    union, left = union.to(errors.dtype), (size - missed).to(errors.dtype)
    # A first wrong pixel makes a union of at least 2, so the clamp touches no value that is used.
    steps = torch.where(hit, 1 / union, left / (union * (union - 1).clamp_min(1)))
    return (errors * steps).sum(1)


def class_weights(kind: str, counts: Tensor, beta: float = EFFECTIVE_NUMBER_BETA) -> Tensor:
    """float32 ``[C]`` from int64 pixel counts ``[C]``.

    - ``none``: all ones.
    - ``inverse``: 1 / frequency (thesis, section 5.1), ``inverse_sqrt`` its square root; mean 1.
    - ``inverse_log``: 1 / ln(count), as the CE7454 report computes it: from the raw count, and with *sum* 1. The scale
      makes no difference to a mean weighted by it. The count does: ten times the pixels give flatter weights.
    - ``effective_number``: (1 - beta) / (1 - beta ** count) (Cui et al. 2019); mean 1. ``beta`` 0 makes all classes
      equal, towards 1 it becomes ``inverse``.

    A class that was never counted gets the largest weight of the others: it may still occur, and an infinite weight
    helps nobody. The same goes for a single pixel under ``inverse_log``, whose ln is 0.

    Raises:
        UserError: nothing was counted at all.
    """
    if kind == "none":
        return torch.ones(len(counts))
    seen = counts > (1 if kind == "inverse_log" else 0)
    if not seen.any():
        raise UserError(
            "class weights: expected labelled pixels, counted none; raise loss.class_weight_batches, or set "
            "loss.class_weights=none"
        )
    pixels = counts.double()[seen]
    if kind == "inverse_log":
        raw = 1 / torch.log(pixels)
    elif kind == "effective_number":
        raw = (1 - beta) / -torch.expm1(pixels * torch.log(torch.tensor(beta, dtype=torch.float64)))
    else:
        raw = pixels ** {"inverse": -1.0, "inverse_sqrt": -0.5}[kind]
    weights = raw.max().repeat(len(counts))
    weights[seen] = raw
    return (weights / (weights.sum() if kind == "inverse_log" else weights.mean())).float()


def count_pixels(batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """int64 ``[C]``: pixels of each class over (photos, labels) batches, without ignored ones."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for _, labels in batches:
        counts += torch.bincount(labels[labels != IGNORED].long(), minlength=classes)
    return counts

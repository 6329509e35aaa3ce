"""The metrics that the configuration names, with their weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from semfacediff import config, plugins
from semfacediff.errors import UserError
from semfacediff.faces.detection import MissingFacesError
from semfacediff.metrics.base import Metric
from semfacediff.metrics.clip import CLIP, CLIPEffect
from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.identity import Identity, calibration_file, open_identity
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.leakage import Leakage
from semfacediff.metrics.mask_iou import IoUFloor, MaskIoU
from semfacediff.metrics.overall import Overall, open_overall
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.pie import BackgroundError, BackgroundLPIPS, BackgroundSSIM
from semfacediff.metrics.reference import ReferenceInception, ReferenceSetScores, as_reference
from semfacediff.metrics.set_scores import SET_COLUMNS, SetScores
from semfacediff.metrics.weights import (
    CLIP_VIT_B_32,
    INCEPTION,
    LPIPS_ALEXNET,
    LPIPS_SQUEEZE,
    PUBLIC,
    FoundWeights,
    MissingWeightsError,
    PublicWeights,
    find,
    find_clip,
    find_local,
)
from semfacediff.sweep_cache import SweepCache
from semfacediff.weight_files import file_state

_OF_PROTOCOL: dict[str, Callable[[str], Metric]] = {"ssim": SSIM, "psnr": PSNR, "iou": MaskIoU, "leakage": Leakage}
"""Metrics without weights whose definition depends on the protocol."""

_OF_PIE: dict[str, Callable[[], Metric]] = {"ssim": BackgroundSSIM, "psnr": BackgroundError}
"""Of ``protocol=pie``, which has its own; everything else is measured as under ``strict``."""
_FLOOR = "iou_floor"

_metrics: SweepCache["Metrics"] = SweepCache()


@dataclass(frozen=True)
class Metrics:
    """What an editing run measures.

    Attributes:
        each: metrics of one edit. sets: distances between all photos and all edits, if there are any to measure.
        floor: what mask IoU is worth on a photo, if that is asked for.
        overall: the one score of an edit, if its axes are measured.
        absent: column -> why it is empty. doubts: why the run is not comparable.
    """

    each: list[Metric]
    sets: SetScores | None = None
    floor: IoUFloor | None = None
    overall: Overall | None = None
    absent: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    def identities(self) -> list[dict[str, object]]:
        """What every metric says of itself."""
        of_edits = [m.identity() | plugins.foreign_code(type(m)) for m in self.each]
        more = [one.identity() for one in (self.floor, self.overall) if one]
        return of_edits + more + (self.sets.identities() if self.sets else [])


def open_metrics(settings: config.Evaluation, on: torch.device) -> Metrics:
    """The metrics that ``metrics.columns`` names.

    Raises:
        MissingWeightsError: weights are absent and ``metrics.on_missing=error``.
    """
    named = {w: getattr(settings.weights, w.key) for w in PUBLIC}
    places = [Path(path).expanduser() if path else find_local(w, settings.weights.root) for w, path in named.items()]
    if settings.weights.arcface:
        network = Path(settings.weights.arcface).expanduser()
        places += [network, calibration_file(network)]
    files = [path and file_state(path) for path in places]
    asked = (settings.metrics, settings.protocol, settings.weights, on)
    return _metrics.get((asked, files), lambda: _made_metrics(settings, on))


def _made_metrics(settings: config.Evaluation, on: torch.device) -> Metrics:
    columns, protocol, clip = settings.metrics.columns, settings.protocol, settings.metrics.clip.model
    weights = _MetricWeights(settings)
    each: list[Metric] = []
    for column in columns:
        if protocol == "pie" and column in _OF_PIE:
            each.append(_OF_PIE[column]())
        elif protocol == "pie" and column == "lpips":
            if found := weights.find(LPIPS_SQUEEZE, column):
                each.append(BackgroundLPIPS(found.state, found.name, on))
        elif column == "lpips":
            if found := weights.find(LPIPS_ALEXNET, column):
                each.append(LPIPS(protocol, found.state, found.name, on))
        elif column == "clip":
            if found := weights.find(CLIP_VIT_B_32, column):
                each.append(of_edit := CLIP(clip, found.state, found.name, on))
                each.append(CLIPEffect(of_edit))
        elif column == "identity":
            if identity := weights.identity():
                each.append(identity)
        elif column in _OF_PROTOCOL:
            each.append(_OF_PROTOCOL[column]("strict" if protocol == "pie" else protocol))
        elif column not in (*SET_COLUMNS, _FLOOR):
            each.append(_plugged(column, settings.metrics.options.get(plugins.class_name(column), {})))
    of_sets, sets = tuple(c for c in SET_COLUMNS if c in columns), None
    if of_sets and (found := weights.find(INCEPTION, *of_sets)):
        own = (ReferenceInception, ReferenceSetScores) if settings.metrics.reference else (Inception, SetScores)
        sets = own[1](of_sets, own[0](found.state, found.name, on))
    each = [as_reference(metric) for metric in each] if settings.metrics.reference else each
    floor = IoUFloor() if _FLOOR in columns else None
    return Metrics(each, sets, floor, open_overall(each, protocol), weights.absent, weights.doubts)


def _plugged(name: str, options: dict[str, Any]) -> Metric:
    made = plugins.made("metric", name, options)
    if not isinstance(made, Metric):
        raise UserError(
            f"metric '{name}': expected a subclass of semfacediff.metrics.base.Metric, got {type(made).__name__}; "
            f"derive the class from it"
        )
    return made


def declared_orders(columns: Sequence[str]) -> dict[str, Sequence[str]]:
    """Column -> what :attr:`Metric.orders` says of it, for the metrics that ``metrics.columns`` names."""
    classes: dict[str, Any] = {**_OF_PROTOCOL, "lpips": LPIPS, "clip": CLIP, **dict.fromkeys(SET_COLUMNS, SetScores)}
    classes[_FLOOR] = IoUFloor
    of_each = [(classes.get(name) or plugins.find("metric", name)).orders for name in columns]
    of_each += [CLIPEffect.orders] if "clip" in columns else []
    return {column: chains for orders in of_each for column, chains in orders.items()}


class _MetricWeights:
    """Weights by the configuration's policy, and what has to be said of them."""

    def __init__(self, settings: config.Evaluation):
        self.settings = settings
        self.absent: dict[str, str] = {}
        self.doubts: list[str] = []

    def find(self, public: PublicWeights, *columns: str) -> FoundWeights | None:
        """``None`` if they are missing and the columns may stay empty."""
        places, wanted = self.settings.weights, self.settings.metrics
        where = getattr(places, public.key), places.root, places.download
        try:
            found = find_clip(wanted.clip.model, *where) if public is CLIP_VIT_B_32 else find(public, *where)
        except MissingWeightsError as e:
            if wanted.on_missing == "error":
                raise
            self.absent |= dict.fromkeys(columns, str(e))
            return None
        if not found.comparable:
            self.doubts.append(f"{', '.join(columns)}: weights {found.name} are not the public {public.files[0].file}")
        return found

    def identity(self) -> Identity | None:
        """``None`` if the packages or the network are missing and the columns may stay empty."""
        try:
            return open_identity(self.settings.metrics.identity, self.settings.weights.arcface)
        except (MissingFacesError, MissingWeightsError) as e:
            if self.settings.metrics.on_missing == "error":
                raise
            self.absent["identity"] = str(e)
            return None

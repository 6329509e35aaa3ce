"""The metrics that the configuration names, with their weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from semfacediff import config, plugins
from semfacediff.errors import UserError
from semfacediff.metrics.base import Metric
from semfacediff.metrics.identity import calibration_file
from semfacediff.metrics.mask_iou import IoUFloor
from semfacediff.metrics.needs import Needs
from semfacediff.metrics.overall import Overall, open_overall
from semfacediff.metrics.reference import as_reference
from semfacediff.metrics.set_scores import SetScores
from semfacediff.metrics.weights import PUBLIC, find_local
from semfacediff.sweep_cache import SweepCache
from semfacediff.weight_files import file_state

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
    needs = Needs(settings, on)
    opened: list[Any] = []
    for name in settings.metrics.columns:
        options = settings.metrics.options.get(plugins.class_name(name), {})
        found = plugins.find("metric", name)
        of_class = getattr(found, "opened", None)
        for made in of_class(name, options, needs) if of_class else [plugins.made("metric", name, options)]:
            if not isinstance(made, Metric | SetScores | IoUFloor):
                raise UserError(
                    f"metric '{name}': expected a subclass of semfacediff.metrics.base.Metric, got "
                    f"{type(made).__name__}; derive the class from it"
                )
            opened.append(as_reference(made) if settings.metrics.reference else made)
    each = [metric for metric in opened if isinstance(metric, Metric)]
    sets = next((m for m in opened if isinstance(m, SetScores)), None)
    floor = next((m for m in opened if isinstance(m, IoUFloor)), None)
    overall = open_overall({column for metric in each for column in metric.columns}, settings.protocol)
    return Metrics(each, sets, floor, overall, needs.absent, needs.doubts)


def declared_orders(columns: Sequence[str]) -> dict[str, Sequence[str]]:
    """Column -> what :attr:`Metric.orders` says of it, for the metrics that ``metrics.columns`` names."""
    of_each = [plugins.find("metric", name).declared_orders() for name in columns]
    return {column: chains for orders in of_each for column, chains in orders.items()}

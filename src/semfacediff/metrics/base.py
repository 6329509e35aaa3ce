"""What a metric of one edit is given, and what it says of itself."""

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from semfacediff import plugins
from semfacediff.labels import CELEBAMASK, LabelSpace

if TYPE_CHECKING:
    from semfacediff.metrics.needs import Needs

PROTOCOLS = ("thesis", "strict")
NO_RESIZE = "none"
OURS = {"implementation": "semfacediff", "version": "1"}
"""Of a metric that is computed here; its version is raised when its values change."""


def known_protocol(protocol: str) -> str:
    """``protocol``, if it is one; a :class:`ValueError` otherwise, for a misspelt one would score as another."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got '{protocol}'")
    return protocol


@dataclass(frozen=True)
class EditPair:
    """One edit as metrics see it, at the size the protocol works at.

    Attributes:
        photo, edit: uint8 ``[H, W, 3]`` RGB.
        blend: uint8 ``[H, W]``: the blend mask, 255 = edit.
        before: bool ``[H, W]``: the semantic mask, the attribute's region in the parse that the edit's mask is of.
        after: bool ``[H, W]``: its region in the judge's parse of the edit; ``None`` where the judge has no opinion.
        prompt: what the edit was asked to be.
        attribute: what was edited.
        labels_before, labels_after: int64 ``[H, W]``: the judge's parses of photo and edit, in ``space``; ``None``
            where it has no opinion, or where there is none.
        judged: bool ``[H, W]``: the region in ``labels_before``; ``None`` = ``before``, as where the parser of the mask
            is the judge.

    Raises:
        ValueError: another type or size; floats in [0,1] or [-1,1] would be scored without complaint otherwise.
    """

    photo: np.ndarray
    edit: np.ndarray
    blend: np.ndarray
    before: np.ndarray
    after: np.ndarray | None
    prompt: str = ""
    attribute: str = ""
    labels_before: np.ndarray | None = None
    labels_after: np.ndarray | None = None
    space: LabelSpace = CELEBAMASK
    judged: np.ndarray | None = None

    def __post_init__(self):
        height, width = self.photo.shape[:2]
        for name, dtype, shape in (
            ("photo", np.uint8, (height, width, 3)),
            ("edit", np.uint8, (height, width, 3)),
            ("blend", np.uint8, (height, width)),
            ("before", np.bool_, (height, width)),
            ("after", np.bool_, (height, width)),
            ("judged", np.bool_, (height, width)),
            ("labels_before", np.int64, (height, width)),
            ("labels_after", np.int64, (height, width)),
        ):
            x = getattr(self, name)
            if x is not None and (x.dtype != dtype or x.shape != shape):
                raise ValueError(
                    f"{name}: expected {np.dtype(dtype)} {list(shape)}, as the photo has, got {x.dtype} {list(x.shape)}"
                )


def declared(
    metric: str,
    *,
    implementation: str,
    version: str,
    bounds: Sequence[float | None] | Mapping[str, Sequence[float | None]],
    unit: str | Mapping[str, str],
    higher_is_better: bool | Mapping[str, bool | None] | None,
    resize: str,
    weights: str | None = None,
    **more: object,
) -> dict[str, object]:
    """A metric's identity: two values are comparable only if all of it agrees.

    Args:
        metric: its column, or its columns parted by commas; those that differ in a property name it by column.
        implementation, version: the library that computes it, or ``semfacediff`` and the version of ours.
        bounds: lowest and highest value, ``None`` = unbounded; becomes ``range``.
        unit: ``1`` for a value without one.
        resize: what happens to the size of a photo before it is measured.
        weights: how the record names them; ``None`` = there are none.
        more: whatever else decides a value, e.g. the protocol.
    """
    return {
        "metric": metric,
        "implementation": implementation,
        "version": version,
        "range": bounds,
        "unit": unit,
        "higher_is_better": higher_is_better,
        "resize": resize,
        "weights": weights,
        **more,
    }


def held_to(library: str, tolerance: str) -> str:
    """What a test holds values of ours to, for the record: the library that computes the same with
    ``metrics.reference=true``, its version and the largest difference."""
    return f"{library} {importlib.metadata.version(library)} within {tolerance}"


class Metric(ABC):
    """Scores one edit.

    Attributes:
        columns: names of what :meth:`score` returns.
        higher_is_better: direction of each column; ``None`` where there is none.
        together: whether :meth:`scores` gives its network those of one size in a batch.
        orders: column -> chains of controls (:mod:`semfacediff.controls`) in the order that the column's means must
            have by value, under protocol ``strict`` and before the composite: ``nothing < photo_noise``. Every column
            of numbers has some.
        of_outside: whether it compares the pixels outside the edit, so that it is also taken of the registered edit.
    """

    columns: ClassVar[tuple[str, ...]]
    higher_is_better: ClassVar[Mapping[str, bool | None]]
    together: bool = False
    orders: ClassVar[Mapping[str, Sequence[str]]] = {}
    of_outside: ClassVar[bool] = False

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: "Needs") -> Sequence[Any]:
        """What a run measures where ``metrics.columns`` has ``name``; empty where weights are missing and may be."""
        return [plugins.made("metric", name, options)]

    @classmethod
    def declared_orders(cls) -> Mapping[str, Sequence[str]]:
        """:attr:`orders` of all that :meth:`opened` gives."""
        return cls.orders

    @abstractmethod
    def score(self, pair: EditPair) -> Mapping[str, float | str | None]:
        """Value of every column; ``None`` = missing (undefined for this edit). Counts are text, as the record has them;
        such a column has no direction."""

    def scores(self, pairs: Sequence[EditPair]) -> Sequence[Mapping[str, float | str | None]]:
        """:meth:`score` of each."""
        return [self.score(pair) for pair in pairs]

    def note(self, prompt: str) -> str | None:
        """What a reader of this prompt's scores must know; most metrics have nothing to say."""
        return None

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """What :func:`declared` makes: two values are comparable only if theirs agree."""


class OfProtocol(Metric):
    """A metric without weights whose definition depends on the protocol.

    Args:
        protocol: one of :data:`PROTOCOLS`.
    """

    def __init__(self, protocol: str):
        self.protocol = known_protocol(protocol)

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: "Needs") -> Sequence[Any]:
        """Of ``protocol=pie``, which has some of its own, everything else is as under ``strict``."""
        return [cls("strict" if needs.protocol == "pie" else needs.protocol)]

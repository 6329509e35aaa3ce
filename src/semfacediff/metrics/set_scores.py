"""Distances between the set of photos and the set of their edits: FID and KID, over Inception features."""

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Protocol

import numpy as np

from semfacediff.metrics.base import OURS, declared, held_to
from semfacediff.metrics.frechet import MIN_N, frechet_distance
from semfacediff.metrics.inception import FEATURES, Inception
from semfacediff.metrics.kernel import MIN_FOR_KID, SEED, SUBSET_SIZE, SUBSETS, kernel_distance
from semfacediff.metrics.moments import Moments
from semfacediff.metrics.needs import Needs
from semfacediff.metrics.weights import INCEPTION

SET_COLUMNS = ("fid", "kid")


class Network(Protocol):
    """What gives the features: ``weights`` is how the record names it."""

    @property
    def weights(self) -> str: ...

    def features(self, photos: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """float32 ``[2048]`` for each uint8 ``[H, W, 3]`` photo, in order."""
        ...


class SetScores:
    """FID and KID of one attribute's edits against their photos; the same under both protocols.

    Args:
        columns: which of ``fid``, ``kid``.
        network: what gives the features.
    """

    higher_is_better: ClassVar = {"fid": False, "kid": False}
    orders: ClassVar = {"fid": ("nothing < photo_noise",), "kid": ("nothing < photo_noise",)}

    @classmethod
    def opened(cls, name: str, _: object, needs: Needs) -> "list[SetScores]":
        """One for all columns of sets: they share their features."""
        columns = tuple(c for c in SET_COLUMNS if c in needs.columns)
        if name != columns[0] or not (found := needs.weights(INCEPTION, *columns)):
            return []
        return [cls(columns, Inception(found.state, found.name, needs.device))]

    @classmethod
    def declared_orders(cls) -> Mapping[str, tuple[str, ...]]:
        return cls.orders

    def __init__(self, columns: tuple[str, ...], network: Network):
        self.columns, self.network = columns, network

    def score(self, photos: np.ndarray, edits: np.ndarray) -> tuple[dict[str, float | int | None], str | None]:
        """(values, why they are missing): ``fid``, ``fid_n``, ``kid``, ``kid_sd`` as far as they are measured.

        Args:
            photos, edits: float ``[N, 2048]`` features, row by row of the same samples.
        """
        values: dict[str, float | int | None] = {"fid_n": len(photos)} if "fid" in self.columns else {}
        if len(photos) < 2:
            return values, f"{len(photos)} photo{'s' * (len(photos) != 1)}, at least 2 are needed"
        if not (np.isfinite(photos).all() and np.isfinite(edits).all()):
            return values, f"features that are not finite; weights {self.network.weights} are damaged"
        why = None
        if "kid" in self.columns and len(photos) < MIN_FOR_KID:
            why = f"{len(photos)} photos, at least {MIN_FOR_KID} are needed"
        elif "kid" in self.columns:
            values["kid"], values["kid_sd"] = kernel_distance(photos, edits)
        if "fid" in self.columns:
            try:
                values["fid"] = self.distance(photos, edits)
            except ValueError as e:
                return values, str(e)
        return values, why

    @staticmethod
    def distance(photos: np.ndarray, edits: np.ndarray) -> float:
        """FID of float ``[N, 2048]`` features."""
        return frechet_distance(Moments.of(photos), Moments.of(edits))

    def name(self, n: int) -> str:
        """FID as it has to be cited: with its dialect and n."""
        return f"fid[{_dialect()}, n={n}]"

    def warning(self, n: int) -> str | None:
        """What to know about an FID over ``n`` photos."""
        if "fid" not in self.columns or not 2 <= n < MIN_N:
            return None
        return f"FID over n = {n} is biased upwards and not comparable with another n: under {MIN_N:,} read KID"

    def identities(self) -> list[dict[str, object]]:
        """What each column's values depend on, as :func:`declared` says it."""

        def column(name: str, lowest: float | None, **own: str) -> dict:
            return declared(
                name,
                **OURS,
                bounds=[lowest, None],
                unit="1",
                higher_is_better=self.higher_is_better[name],
                resize="bilinear to 299, float32, no antialiasing",
                weights=self.network.weights,
                **own,
                input="8-bit RGB at the working size, edits after the composite",
                features=f"pytorch-fid's Inception, last pooling, {FEATURES}",
            )

        kernel = f"(x.y / {FEATURES} + 1)^3, unbiased"
        subsets = f"{SUBSETS} of min({SUBSET_SIZE}, n // 2), photos and edits of different faces, seed {SEED}"
        fid = column("fid", 0, dialect=_dialect(), held_to=held_to("pytorch-fid", "1e-4 of the value"))
        kid = column("kid", None, kernel=kernel, subsets=subsets)
        return [{"fid": fid, "kid": kid}[name] for name in self.columns]


def _dialect() -> str:
    return f"pytorch-fid {importlib.metadata.version('pytorch-fid')}, uint8 PNG, bilinear 299"

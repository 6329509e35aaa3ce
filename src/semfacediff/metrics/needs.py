"""What a run gives its metrics: protocol, device, and weights by its policy."""

import torch

from semfacediff import config
from semfacediff.metrics.weights import (
    CLIP_VIT_B_32,
    FoundWeights,
    MissingWeightsError,
    PublicWeights,
    find,
    find_clip,
)


class Needs:
    """Of one run.

    Attributes:
        columns: all that ``metrics.columns`` names.
        absent: column -> why it stays empty. doubts: why the run is not comparable.
    """

    def __init__(self, settings: config.Evaluation, device: torch.device):
        self.settings, self.device, self.protocol = settings, device, settings.protocol
        self.columns, self.clip_model = settings.metrics.columns, settings.metrics.clip.model
        self.absent: dict[str, str] = {}
        self.doubts: list[str] = []

    def weights(self, public: PublicWeights, *columns: str) -> FoundWeights | None:
        """``None`` if they are missing and the columns may stay empty."""
        places = self.settings.weights
        where = getattr(places, public.key), places.root, places.download
        try:
            found = find_clip(self.clip_model, *where) if public is CLIP_VIT_B_32 else find(public, *where)
        except MissingWeightsError as e:
            self.missing(e, *columns)
            return None
        if not found.comparable:
            self.doubts.append(f"{', '.join(columns)}: weights {found.name} are not the public {public.files[0].file}")
        return found

    def missing(self, why: Exception, *columns: str) -> None:
        """Leave ``columns`` empty, or raise ``why`` under ``metrics.on_missing=error``."""
        if self.settings.metrics.on_missing == "error":
            raise why
        self.absent |= dict.fromkeys(columns, str(why))

"""``metrics.columns=[fid]``: FID, see :mod:`semfacediff.metrics.set_scores`."""

from semfacediff.metrics.set_scores import SetScores

METRIC = SetScores

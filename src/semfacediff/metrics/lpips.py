"""``metrics.columns=[lpips]``: LPIPS, see :mod:`semfacediff.metrics.perceptual`."""

from semfacediff.metrics.perceptual import LPIPS

METRIC = LPIPS

"""``metrics.columns=[ssim]``: Structural similarity, see :mod:`semfacediff.metrics.fidelity`."""

from semfacediff.metrics.fidelity import SSIM

METRIC = SSIM

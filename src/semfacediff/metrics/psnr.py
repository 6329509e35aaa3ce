"""``metrics.columns=[psnr]``: Signal to noise, largest change; see :mod:`semfacediff.metrics.fidelity`."""

from semfacediff.metrics.fidelity import PSNR

METRIC = PSNR

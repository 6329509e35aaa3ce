"""``metrics.columns=[iou_floor]``: What mask IoU is worth on a photo, see :mod:`semfacediff.metrics.mask_iou`."""

from semfacediff.metrics.mask_iou import IoUFloor

METRIC = IoUFloor

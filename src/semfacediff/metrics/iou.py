"""``metrics.columns=[iou]``: Mask IoU, see :mod:`semfacediff.metrics.mask_iou`."""

from semfacediff.metrics.mask_iou import MaskIoU

METRIC = MaskIoU

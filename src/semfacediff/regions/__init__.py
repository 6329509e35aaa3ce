"""From a label map to the three masks of one edit."""

from semfacediff.regions.additions import ADDABLE, task_region
from semfacediff.regions.masks import RegionRule, attribute_region, feather, masks_of, region_masks

__all__ = ["ADDABLE", "RegionRule", "attribute_region", "feather", "masks_of", "region_masks", "task_region"]

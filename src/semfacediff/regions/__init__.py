"""From a label map to the three masks of one edit."""

from semfacediff.regions.masks import RegionRule, attribute_region, feather, region_masks

__all__ = ["RegionRule", "attribute_region", "feather", "region_masks"]

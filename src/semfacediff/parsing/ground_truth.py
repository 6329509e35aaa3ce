"""``parser=ground_truth``: the labels of the data set."""

from torch import Tensor

from semfacediff import config
from semfacediff.labels import LabelSpace
from semfacediff.parsing.predict import Parser, labels_like
from semfacediff.types import FaceSample


class GroundTruthParser(Parser):
    """The data set's own labels before the edit, and no opinion after it."""

    def __init__(self, label_space: LabelSpace):
        self.label_space = label_space

    @classmethod
    def opened(cls, settings: config.ParserConfig, data_space: LabelSpace) -> tuple[Parser, dict]:
        return cls(data_space), {"name": settings.name, "label_space": data_space.name}

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor:
        return labels_like(sample.label_map, photo)

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None:
        return None


PARSER = GroundTruthParser

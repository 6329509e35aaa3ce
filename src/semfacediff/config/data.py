"""``data=``: the data sets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from semfacediff.config.closed import Closed, Positive, Seed
from semfacediff.config.plugged import Plugged, tag_of
from semfacediff.labels import SpaceName


class SplitRuleConfig(Closed):
    by: Literal["id", "index", "shard", "file"] = "id"
    modulo: Positive = 10
    val: list[int] = Field(default=[0])
    test: list[int] = Field(default=[])

    @model_validator(mode="after")
    def _parts(self):
        outside = [r for r in self.val + self.test if not 0 <= r < self.modulo]
        both = sorted(set(self.val) & set(self.test))
        if outside or both:
            raise ValueError(
                f"data.split_rule: val and test are disjoint lists of remainders 0..{self.modulo - 1}, "
                f"got val={self.val} test={self.test}"
            )
        return self


class SubsetConfig(Closed):
    """How many samples are drawn at random for each part, instead of the split."""

    seed: Seed
    train: Positive
    val: Positive
    test: Annotated[int, Field(ge=0)]


class DataConfig(Closed):
    """What every kind of data set shares."""

    split: Literal["train", "val", "test", "all"]
    subset: SubsetConfig | None
    n: Positive | None


class RuledData(DataConfig):
    """Data sets that are split by a rule."""

    split_rule: SplitRuleConfig


class ToyData(RuledData):
    name: Literal["toy"]
    count: Positive
    size: Annotated[int, Field(ge=32, le=2048)]
    seed: Seed


class PlacedData(DataConfig):
    root: str | None
    on_error: Literal["error", "skip"]
    allow_mask_resize: bool

    @model_validator(mode="after")
    def _placed(self):
        if self.root is None:
            raise ValueError("data.root is not set; set data.root=DIR or the environment variable SEMFACEDIFF_DATA")
        return self

    @property
    def folder(self) -> Path:
        """``root`` as a path."""
        return Path(str(self.root)).expanduser()  # set, or this would not have been validated


class CelebAMaskHQData(PlacedData):
    """The official layout; split through its lists."""

    name: Literal["celebamask_hq"]
    paint_order: Literal["official", "segface"]


class LapaData(PlacedData):
    """LaPa's layout; split by its folders."""

    name: Literal["lapa"]
    label_space: Literal["lapa"]


class HelenData(PlacedData):
    """Helen's layout; split by its folders, which have none to validate on."""

    name: Literal["helen"]
    label_space: Literal["helen"]
    val: Literal["held_out", "test"]
    crop: bool


class FileData(PlacedData, RuledData):
    label_space: SpaceName


class FolderData(FileData):
    name: Literal["folder"]
    images: str
    masks: str


class ShardsData(FileData):
    name: Literal["shards"]
    shards: str


class OtherData(RuledData, Plugged):  # the last base says what extra keys are
    """A data set of one's own."""

    kind = "data"


_CLOSED = (ToyData, FolderData, ShardsData, CelebAMaskHQData, LapaData, HelenData)

AnyData = Annotated[
    Annotated[ToyData, Tag("toy")]
    | Annotated[FolderData, Tag("folder")]
    | Annotated[ShardsData, Tag("shards")]
    | Annotated[CelebAMaskHQData, Tag("celebamask_hq")]
    | Annotated[LapaData, Tag("lapa")]
    | Annotated[HelenData, Tag("helen")]
    | Annotated[OtherData, Tag("other")],
    Discriminator(tag_of(_CLOSED)),
]

"""Does the edited region keep its place and shape?"""

from typing import ClassVar

from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared, known_protocol


class MaskIoU(Metric):
    """Intersection over union of the attribute's region in the parse before and after the edit.

    Where both are empty the thesis counts 0; ``strict`` leaves the value missing. Missing too where the parser has no
    opinion of the edited photo.
    """

    columns = ("iou",)
    higher_is_better: ClassVar = {"iou": True}
    orders: ClassVar = {"iou": ("shift_3px < nothing", "photo_noise < nothing", "half_outside < nothing")}

    def __init__(self, protocol: str):
        self.protocol = known_protocol(protocol)

    def score(self, pair: EditPair) -> dict[str, float | None]:
        if pair.after is None:
            return {"iou": None}
        union = int((pair.before | pair.after).sum())
        if union == 0:
            return {"iou": 0.0 if self.protocol == "thesis" else None}
        return {"iou": int((pair.before & pair.after).sum()) / union}

    def identity(self) -> dict[str, object]:
        return declared(
            "iou",
            **OURS,
            bounds=[0, 1],
            unit="1",
            higher_is_better=True,
            resize=NO_RESIZE,
            input="label maps at the working size",
            both_empty=0 if self.protocol == "thesis" else None,
        )

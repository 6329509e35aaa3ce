"""Thumbnails of faces made from label maps: a run's samples beside their photos, and its showcase."""

from pathlib import Path

import numpy as np

from semfacediff.commands.report.data import Thumbnails, recorded_data, saved_picture, thumbnail
from semfacediff.errors import UserError
from semfacediff.labels import palette
from semfacediff.report.reading import Record

_PX = 192
"""Long side of a thumbnail of the showcase."""


def showcase_thumbnails(record: Record) -> dict[str, str]:
    """File in the run's folder -> data URI, of those pictures of its showcase that can be read."""
    if record.showcase is None:
        return {}
    home, found = (record.folder / "showcase").resolve(), {}
    for name in record.showcase.files.values():
        file = record.folder / name
        picture = saved_picture(file) if file.resolve().is_relative_to(home) else None
        if picture is not None:
            found[name] = thumbnail(picture, _PX)
    return found


class GeneratedSource:
    """Generated photos in the folder of a run; photo and label map are loaded again if the data are available.

    Attributes:
        doubts: why photos and label maps are missing.
    """

    def __init__(self, record: Record, root: Path | None):
        self.folder, self.doubts = record.folder, []
        try:
            self.faces = recorded_data(record, root, labels_needed=True).faces
            self.place = {id_: i for i, id_ in enumerate(self.faces.ids)}
        except UserError as e:
            self.place, self.doubts = {}, [f"no photos and no label maps: {e}"]

    def shown(self, sample_id: str, tasks: list[str]) -> dict[str, Thumbnails]:
        """Panels of the results for one label map."""
        made = {task: saved_picture(self.folder / "samples" / task / f"{sample_id}.png") for task in tasks}
        sizes = [picture.shape[0] for picture in made.values() if picture is not None]
        given = self._given(sample_id, sizes[0]) if sizes else {}
        return {task: self._of(f"samples/{task}/{sample_id}.png", p, given) for task, p in made.items()}

    def _of(self, file: str, made: np.ndarray | None, given: dict[str, np.ndarray]) -> Thumbnails:
        if made is None:
            return Thumbnails({}, [f"{file} is missing"])
        return Thumbnails(given | {"edit": made}, [])

    def _given(self, sample_id: str, size: int) -> dict[str, np.ndarray]:
        if sample_id not in self.place:
            return {}
        from semfacediff.synthesis.latents import at_size  # imports diffusers, which takes seconds

        photo, labels = at_size(self.faces[self.place[sample_id]], size)
        return {"photo": photo, "labels": palette(self.faces.label_space)[labels]}

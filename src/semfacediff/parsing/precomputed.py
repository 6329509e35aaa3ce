"""``parser=precomputed``: label maps from disk."""

from pathlib import Path

from torch import Tensor

from semfacediff import config
from semfacediff.data.reading import Blob, decode_labels
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace
from semfacediff.parsing.predict import Parser, labels_like
from semfacediff.types import FaceSample
from semfacediff.weight_files import fingerprint


class PrecomputedParser(Parser):
    """Label maps from disk: ``<root>/before/<id>.png`` and ``<root>/after/<attribute>/<id>.png``, nearest-resized.

    Without a folder ``after`` it has no opinion of edits.
    """

    def __init__(self, root: Path, label_space: LabelSpace):
        if not (root / "before").is_dir():
            raise UserError(f"parser.root: expected label maps in {root / 'before'}, found no such folder")
        self.root = root
        self.label_space = label_space

    @classmethod
    def opened(cls, settings: config.ParserConfig, data_space: LabelSpace) -> tuple[Parser, dict]:
        root = Path(str(settings.root)).expanduser()  # the configuration has seen to it that there is one
        return cls(root, data_space), {"name": settings.name, "label_space": data_space.name}

    def fingerprint(self, sample_id: str, attribute: str | None) -> str:
        folders = ["before"] if attribute is None else ["before", f"after/{attribute}"]
        return fingerprint(*(self.root / folder / f"{sample_id}.png" for folder in folders))

    def check(self, attributes: list[str]) -> None:
        super().check(attributes)
        missing = [f"after/{a}" for a in attributes if not (self.root / "after" / a).is_dir()]
        if self._judges_edits and missing:
            raise UserError(f"parser.root: no folder {', '.join(missing)} in {self.root}; or choose attributes=[...]")

    @property
    def _judges_edits(self) -> bool:
        return (self.root / "after").is_dir()

    def _read(self, relative: str, photo: Tensor) -> Tensor:
        labels = decode_labels(Blob(self.root / relative, relative).read(), relative, self.label_space)
        return labels_like(labels, photo)

    def before(self, sample: FaceSample, photo: Tensor) -> Tensor:
        return self._read(f"before/{sample.id}.png", photo)

    def after(self, sample: FaceSample, attribute: str, photo: Tensor) -> Tensor | None:
        if not self._judges_edits:
            return None
        return self._read(f"after/{attribute}/{sample.id}.png", photo)


PARSER = PrecomputedParser

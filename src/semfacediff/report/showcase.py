"""The showcase pictures of a synthesis run, in display order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from semfacediff.records import showcase as kinds
from semfacediff.records.showcase import Item
from semfacediff.report.reading import SYNTHESIS, Record

_NONE = (
    "This record contains no showcase: it is older, unfinished, or was made with synthesis.showcase=0; a new run with "
    "synthesis.showcase=6 creates one."
)


@dataclass(frozen=True)
class GalleryItem:
    """One picture; ``uri`` is ``None`` if its file is missing or damaged, ``note`` a deviation from the request."""

    caption: str
    alt: str
    uri: str | None
    note: str


@dataclass(frozen=True)
class Group:
    """Pictures of one kind, one strip per face."""

    heading: str
    said: str
    strips: list[list[GalleryItem]]

    @property
    def columns(self) -> int:
        return max(map(len, self.strips))


@dataclass(frozen=True)
class Gallery:
    """Pictures and messages of one run."""

    run: str
    groups: list[Group]
    said: list[str]


def gallery(record: Record, uris: Mapping[str, str] | None) -> Gallery | None:
    """Showcase of a run; ``None`` if it is not a synthesis run.

    Args:
        uris: file in the run's folder -> data URI of its thumbnail; ``None`` if photos were not requested.
    """
    found = record.showcase
    if record.task != SYNTHESIS:
        return None
    if found is None:
        return Gallery(record.id, [], [_NONE])
    said = [f"Left out: {text}." for text in found.left_out]
    if found.broken:
        said.append(f"{found.broken} entries of {kinds.LIST} cannot be read.")
    if not found.files:
        return Gallery(record.id, [], [_NONE, *said])
    if uris is None:
        faces = len({item.ids[0] for item in found.files})
        there = f"{len(found.files)} pictures of {faces} faces are in showcase/ of the run"
        said.insert(0, f"{there}; --with-photos shows them here.")
        return Gallery(record.id, [], said)
    gone = sorted(file for file in found.files.values() if file not in uris)
    if gone:
        said.append(f"Missing or damaged, so not shown: {', '.join(gone)}.")
    return Gallery(record.id, _groups(found, uris), said)


def _groups(found: kinds.Showcase, uris: Mapping[str, str]) -> list[Group]:
    by_face: dict[str, dict[str, list[Item]]] = {}
    for item in found.files:
        by_face.setdefault(item.ids[0], {}).setdefault(item.kind, []).append(item)

    def show(item: Item) -> GalleryItem:
        caption, alt = _WORDS[item.kind](item) if item.kind in _WORDS else (item.kind, f"{item.kind} of {item.ids[0]}")
        return GalleryItem(caption, alt, uris.get(found.files[item]), found.notes[item])

    def strips(pick: Callable[[dict[str, list[Item]]], list[Item]]) -> list[list[GalleryItem]]:
        picked = [pick(of_face) for of_face in by_face.values()]
        return [[show(item) for item in items] for items in picked if any(i.kind not in _GIVEN for i in items)]

    def photo(item: Item) -> list[Item]:
        """Photo of the reference."""
        return by_face.get(item.ids[-1], {}).get(kinds.PHOTO, [])

    def swapped(of: dict[str, list[Item]]) -> list[Item]:
        made = [item for kind in (kinds.SWAP_STYLE, kinds.SWAP_PARTS, kinds.MIX) for item in of.get(kind, [])]
        return [*of.get(kinds.PHOTO, []), *photo(made[0]), *made] if made else []

    def between(of: dict[str, list[Item]]) -> list[Item]:
        made = sorted(of.get(kinds.INTERPOLATION, []), key=lambda item: item.weight or 0)
        return [*of.get(kinds.PHOTO, []), *made, *photo(made[0])] if made else []

    def of_kinds(*names: str) -> Callable[[dict[str, list[Item]]], list[Item]]:
        return lambda of: [item for name in names for item in of.get(name, [])]

    remade = strips(of_kinds(kinds.PHOTO, kinds.LABELS, kinds.RECONSTRUCTION, kinds.NOISE))
    edits = strips(of_kinds(kinds.PHOTO, kinds.LABELS, kinds.EDITED_LABELS, kinds.EDIT))
    groups = [
        Group("Reconstructions and draws", "From the label map, with the photo's own style and without style.", remade),
        Group("Swapped styles", "The first photo's label map with the style of the second.", strips(swapped)),
        Group("Interpolation", _on_the_way(found), strips(between)),
        Group("Edited label maps", "The photo's own noise (DDIM inversion) under a changed label map.", edits),
    ]
    return [group for group in groups if group.strips]


def _on_the_way(found: kinds.Showcase) -> str:
    parts = next((item.parts for item in found.files if item.kind == kinds.INTERPOLATION), ())
    return f"One label map and one noise; style of {', '.join(parts)} from the first photo's to the second's."


_GIVEN = (kinds.PHOTO, kinds.LABELS, kinds.EDITED_LABELS)
"""Kinds that are not generated."""


def _reconstruction(item: Item) -> tuple[str, str]:
    return "reconstruction", f"Reconstruction of {item.ids[0]}"


def _noise(item: Item) -> tuple[str, str]:
    draw = (item.draw or 0) + 1
    return f"from noise {draw}", f"Draw {draw} from noise with the label map of {item.ids[0]}"


def _swapped(item: Item) -> tuple[str, str]:
    return f"style of {item.ids[-1]}", f"{item.ids[0]} in the style of {item.ids[-1]}"


def _parts(item: Item) -> tuple[str, str]:
    said = f"{', '.join(item.parts)} of {item.ids[-1]}"
    return said, f"{item.ids[0]} with {said}"


def _mixed(item: Item) -> tuple[str, str]:
    said = f"{', '.join(item.parts)} of {item.ids[-1]}, rest from noise"
    return said, f"Label map of {item.ids[0]} with {said}"


def _between(item: Item) -> tuple[str, str]:
    weight = f"{item.weight or 0:g}"
    return weight, f"{item.ids[0]}, {', '.join(item.parts)} {weight} of the way to {item.ids[-1]}"


_WORDS: Mapping[str, Callable[[Item], tuple[str, str]]] = {
    kinds.PHOTO: lambda item: (f"photo {item.ids[0]}", f"Photo {item.ids[0]}"),
    kinds.LABELS: lambda item: ("label map", f"Label map of {item.ids[0]}"),
    kinds.RECONSTRUCTION: _reconstruction,
    kinds.NOISE: _noise,
    kinds.SWAP_STYLE: _swapped,
    kinds.SWAP_PARTS: _parts,
    kinds.MIX: _mixed,
    kinds.INTERPOLATION: _between,
    kinds.EDITED_LABELS: lambda item: (f"{item.change}", f"Label map of {item.ids[0]}, {item.change}"),
    kinds.EDIT: lambda item: ("edited photo", f"{item.ids[0]}, {item.change}"),
}
"""Kind -> (caption, alternative text)."""

"""Pictures of what a synthesis run makes, beside its scores: reconstructions, swaps, an interpolation, edits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, palette
from semfacediff.records.showcase import (
    EDIT,
    EDITED_LABELS,
    INTERPOLATION,
    LABELS,
    MIX,
    NOISE,
    PHOTO,
    RECONSTRUCTION,
    SWAP_PARTS,
    SWAP_STYLE,
    Item,
    read_showcase,
    write_showcase,
)
from semfacediff.records.writing import write_bytes
from semfacediff.synthesis.faces import Faces, layout
from semfacediff.synthesis.layouts import paint, part_indices, remove
from semfacediff.synthesis.tasks import Synthesis, Synthesizer
from semfacediff.tables.figures import panel_figure
from semfacediff.tasks.synthesis.grids import encoded_png, read_png
from semfacediff.types import FaceSample, to_uint8

SWAPPED = ("hair", "lips", "skin")
MIXED = ("hair",)
INTERPOLATED = ("hair", "skin")
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_GROWTH = 0.08
"""By which share of the side hair grows."""
_BEHIND = ("background", "neck", "cloth")
"""What hair may grow over: the face stays as it is."""
_WHITE = 255
_TITLE = "A row's reference is the next row, the last one's the first; parts as far as both have them"
_COLUMNS: dict[str | tuple[str, int], str] = {
    PHOTO: "photo",
    LABELS: "label map",
    RECONSTRUCTION: "reconstruction",
    (NOISE, 0): "out of noise",
    (NOISE, 1): "another draw",
    SWAP_STYLE: "style of the\nreference",
    SWAP_PARTS: "hair, lips, skin\nof the reference",
    MIX: "hair of the reference,\nrest out of noise",
    EDITED_LABELS: "edited label map",
    EDIT: "edited photo",
}

Scored = Callable[[str, str], np.ndarray | None]
"""(task, id) -> uint8 ``[S, S, 3]`` that the run's scores are of; ``None`` of a task that it has not."""


def make_showcase(folder: Path, synthesizer: Synthesizer, faces: Faces, scored: Scored) -> None:
    """Write ``showcase/`` and two figures of it; what an earlier sitting made is kept.

    What cannot be made is left out and said to be: pictures must not cost a run its scores.

    Args:
        synthesizer: with the run's own sampling. faces: at the model's size, in its label space.

    Raises:
        UserError: a file cannot be written.
    """
    if not faces:
        return
    plan, layouts, left_out = planned(faces, synthesizer.space)
    by_id = {face.id: face for face in faces}
    notes: dict[Item, str] = {}
    earlier = _earlier(folder)
    for batch in tqdm(list(_batches(plan)), desc="showcase", unit="batch", leave=False, disable=None):
        kept = [item for item in batch if item in earlier and (folder / item.file).is_file()]
        todo = [item for item in batch if item not in kept]
        try:
            made = _pictures(synthesizer, todo, by_id, layouts, scored)
        except Exception as e:  # whatever it is, the scores are there
            left_out.append(f"{batch[0].kind}: {e if isinstance(e, UserError) else f'{type(e).__name__}: {e}'}")
            made = {}
        notes |= {item: earlier[item] if item in kept else made[item][1] for item in batch if item in (*kept, *made)}
        write_showcase(folder, notes, left_out)
        for item, (picture, _) in made.items():
            write_bytes(folder / item.file, encoded_png(picture))
    write_showcase(folder, notes, left_out)
    _draw(folder, faces, notes)


def planned(faces: Faces, space: LabelSpace) -> tuple[list[Item], dict[str, FaceSample], list[str]]:
    """(pictures, id -> edited layout, what is left out and why); every face's reference is the next one."""
    ids = [face.id for face in faces]
    plan = [Item(kind, (id_,)) for kind in (PHOTO, LABELS, RECONSTRUCTION) for id_ in ids]
    plan += [Item(NOISE, (id_,), draw=draw) for draw in (0, 1) for id_ in ids]
    of_pairs, left_out = _of_pairs(list(pairwise([*faces, faces[0]])) if len(faces) > 1 else [], space)
    layouts = {face.id: edited for face in faces if (edited := edited_layout(face, space))}
    left_out += [f"no edit of {id_}: neither glasses to remove nor hair to grow" for id_ in ids if id_ not in layouts]
    edits = [Item(kind, (id_,), change=layouts[id_][1]) for kind in (EDITED_LABELS, EDIT) for id_ in layouts]
    return [*plan, *of_pairs, *edits], {id_: edited for id_, (edited, _) in layouts.items()}, left_out


def _of_pairs(pairs: Sequence[tuple[FaceSample, FaceSample]], space: LabelSpace) -> tuple[list[Item], list[str]]:
    """Swaps and mixtures of every pair (face, reference), and the interpolation of the first that has the parts."""
    if not pairs:
        return [], ["no swaps and no interpolation: they take two faces"]
    plan = [Item(SWAP_STYLE, (a.id, b.id)) for a, b in pairs]
    left_out = []
    for kind, asked in ((SWAP_PARTS, SWAPPED), (MIX, MIXED)):
        found = {(a.id, b.id): common_parts(a, b, asked, space) for a, b in pairs}
        plan += [Item(kind, ids, parts) for ids, parts in found.items() if parts]
        left_out += [f"no {kind} of {a} and {b}: no {', '.join(asked)} in both" for (a, b), p in found.items() if not p]
    shared = {(a.id, b.id): common_parts(a, b, INTERPOLATED, space) for a, b in pairs}
    ids, parts = max(shared.items(), key=lambda pair: len(pair[1]))
    if parts:
        plan += [Item(INTERPOLATION, ids, parts, weight) for weight in WEIGHTS]
    else:
        left_out.append(f"no interpolation: no two neighbours both have {' or '.join(INTERPOLATED)}")
    return plan, left_out


def common_parts(a: FaceSample, b: FaceSample, asked: Iterable[str], space: LabelSpace) -> tuple[str, ...]:
    """Those of the parts asked for that both label maps show."""
    there = [set(np.unique(face.label_map)) for face in (a, b)]
    return tuple(part for part in asked if all(seen & set(part_indices(part, space)) for seen in there))


def edited_layout(face: FaceSample, space: LabelSpace) -> tuple[FaceSample, str] | None:
    """(the layout without glasses, or with more hair, what was done); ``None`` where there is neither."""
    there = {space.classes[i] for i in np.unique(face.label_map)}
    if "eye_g" in there:
        return layout(face.id, remove(face.label_map, "eye_g", space)), "glasses removed"
    if "hair" not in there:
        return None
    reach = 2 * max(1, round(_GROWTH * face.label_map.shape[0])) + 1
    hair = (face.label_map == space.index("hair")).astype(np.uint8)
    near = cv2.dilate(hair, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    behind = np.isin(face.label_map, [space.index(name) for name in _BEHIND if name in space.classes])
    grown = (near > 0) & behind
    return (layout(face.id, paint(face.label_map, "hair", grown, space)), "hair grown") if grown.any() else None


def _earlier(folder: Path) -> dict[Item, str]:
    try:
        return read_showcase(folder).notes
    except (OSError, ValueError):
        return {}


def _batches(plan: Iterable[Item]) -> Iterable[list[Item]]:
    """Items that one call makes."""
    groups: dict[tuple, list[Item]] = {}
    for item in plan:
        groups.setdefault((item.kind, item.parts, item.draw), []).append(item)
    return groups.values()


def _pictures(
    synthesizer: Synthesizer,
    batch: Sequence[Item],
    faces: Mapping[str, FaceSample],
    layouts: Mapping[str, FaceSample],
    scored: Scored,
) -> dict[Item, tuple[np.ndarray, str]]:
    """Item -> (picture uint8 ``[S, S, 3]``, note)."""
    colours = palette(synthesizer.space)
    simple = {
        PHOTO: lambda item: faces[item.ids[0]].photo,
        LABELS: lambda item: colours[faces[item.ids[0]].labels],
        EDITED_LABELS: lambda item: colours[layouts[item.ids[0]].labels],
    }
    found = {item: simple[item.kind](item) if item.kind in simple else _scored(item, scored) for item in batch}
    pictures = {item: (picture, "") for item, picture in found.items() if picture is not None}
    todo = [item for item in batch if item not in pictures]
    if todo:
        made = _made(synthesizer, todo, faces, layouts)
        pictures |= {i: (to_uint8(p), note) for i, p, note in zip(todo, made.images, made.notes, strict=True)}
    return pictures


def _scored(item: Item, scored: Scored) -> np.ndarray | None:
    """What the run has made already for its scores; ``None`` where it has not."""
    if item.kind not in (RECONSTRUCTION, NOISE) or item.draw:
        return None
    return scored(item.kind, item.ids[0])


def _made(
    s: Synthesizer, batch: Sequence[Item], faces: Mapping[str, FaceSample], layouts: Mapping[str, FaceSample]
) -> Synthesis:
    """One call for items of one kind, with the same parts and draw."""
    kind, parts, own = batch[0].kind, batch[0].parts, [faces[item.ids[0]] for item in batch]
    references = [faces[item.ids[-1]] for item in batch]
    calls = {
        RECONSTRUCTION: lambda: s.reconstruct(own),
        NOISE: lambda: s.generate(own, batch[0].draw or 0),
        SWAP_STYLE: lambda: s.swap_style(own, references),
        SWAP_PARTS: lambda: s.swap_parts(own, references, parts),
        MIX: lambda: s.mix(own, references, parts),
        INTERPOLATION: lambda: s.interpolate(own[0], references[0], parts, [item.weight or 0.0 for item in batch]),
        EDIT: lambda: s.edit(own, [layouts[face.id] for face in own]),
    }
    return calls[kind]()


def _draw(folder: Path, faces: Faces, items: Iterable[Item]) -> None:
    """``figures/showcase.png``, a row a face, and ``figures/interpolation.png``, from the files."""
    blank = np.full_like(faces[0].photo, _WHITE)
    by_cell = {(i.ids[0], i.kind if i.draw is None else (i.kind, i.draw)): i.file for i in items}
    read = {cell: read_png(folder / file) for cell, file in by_cell.items()}
    columns = {key: caption for key, caption in _COLUMNS.items() if any(key == of for _, of in by_cell)}

    def cell(id_: str, key: str | tuple[str, int]) -> np.ndarray:
        found = read.get((id_, key))
        return blank if found is None else found

    rows: list[list[tuple[str, np.ndarray | None]]]
    rows = [[(caption, cell(face.id, key)) for key, caption in columns.items()] for face in faces]
    panel_figure(rows, _TITLE, folder / "figures" / "showcase.png")
    strip = [item for item in items if item.kind == INTERPOLATION]
    if strip:
        row = [(f"{item.weight:g}", read_png(folder / item.file)) for item in strip]
        first, second, parts = *strip[0].ids, ", ".join(strip[0].parts)
        title = f"{first}: {parts} on the way to the style of {second}"
        panel_figure([row], title, folder / "figures" / "interpolation.png")

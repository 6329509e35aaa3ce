"""Figures of a run's first samples: photo, parse, mask and edit, and all edits side by side."""

import cv2
import numpy as np

from semfacediff.editing.apply import EditSpec
from semfacediff.records.samples import ERROR
from semfacediff.tables.figures import overlay, panel_figure
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.sample_row import Parsed, edit_file

Panel = tuple[str, np.ndarray | None]
"""Caption and picture; ``None`` where there is none."""


def draw_strips(bench: EditingBench) -> None:
    """Write ``figures/<attribute>.png`` and ``figures/overview.png`` from the edits on disk, less failed samples.

    The photos are parsed once more, so that the figures of a run that was interrupted are those of one that was not.
    """
    settings, space, figures = bench.settings, bench.parser.label_space, bench.folder / "figures"
    failed = {row["sample_id"] for row in bench.kept_log if row["status"] == ERROR}
    first = [i for i, id_ in enumerate(bench.faces.ids[: settings.strips]) if id_ not in failed]
    parsed = [bench.parsed(bench.faces[i], to_score=False) for i in first]
    if not parsed:
        return
    if settings.cascade is not None:
        _draw_cascade(bench, parsed)
        return
    rows: list[list[Panel]]
    rows = [[("photo", p.photo), ("parse", overlay(p.photo, p.labels.numpy(), space))] for p in parsed]
    for attribute in settings.attributes:
        strips: list[list[Panel]] = []
        for p, row in zip(parsed, rows, strict=True):
            specs = [s for s in bench.plan.of(p.sample.id) if s.attribute == attribute]
            edits = [(_caption(spec), _saved(bench, spec.name, p.sample.id)) for spec in specs]
            if specs:
                mask = bench.rules.masks(p.sample, p.labels, attribute, space, specs[0].kind).blend[0].numpy()
                strips.append([*row[:2], ("mask", mask), *edits])
            row.append((attribute, edits[0][1] if edits else None))
        title = attribute if settings.prompts.of_tasks else f"{attribute}: {settings.prompts.texts[attribute]}"
        if strips:
            panel_figure(strips, title, figures / f"{attribute}.png")
    panel_figure(rows, "", figures / "overview.png")


def _caption(spec: EditSpec) -> str:
    said = spec.words.prompt if spec.kind else "edit"
    return said if spec.repeat is None else f"{said} {spec.repeat}"


def _draw_cascade(bench: EditingBench, parsed: list[Parsed]) -> None:
    """``figures/cascade.png``: the photo and what every stage made of it."""
    rows: list[list[Panel]] = [
        [("photo", p.photo), *((f"{s.stage} {s.attribute}", _saved(bench, s.name, p.sample.id)) for s in bench.specs)]
        for p in parsed
    ]
    title = ", then ".join(spec.words.prompt for spec in bench.specs)
    panel_figure(rows, title, bench.folder / "figures" / "cascade.png")


def _saved(bench: EditingBench, spec_name: str, sample_id: str) -> np.ndarray | None:
    """The edit as written, uint8 ``[H, W, 3]``; ``None`` where the region was empty."""
    file = edit_file(bench.folder, spec_name, sample_id)
    pixels = cv2.imread(str(file)) if file.exists() else None
    return None if pixels is None else pixels[..., ::-1]

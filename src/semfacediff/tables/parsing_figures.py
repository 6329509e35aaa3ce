"""Figures of a parser's scores, from records alone; strips of photos are the exception."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace, palette
from semfacediff.metrics.photo_counts import CHALLENGE_F, SUMMARY_ROWS, dense
from semfacediff.metrics.segmentation import AGGREGATES, HELEN_REGIONS
from semfacediff.records.columns import read_table
from semfacediff.records.folder import read_run
from semfacediff.tables.drawing import BLACK, GREEN, ORANGE, PINK, SKY, Axes, Figure, new_figure, save_figure, styled
from semfacediff.tables.figures import training_curves

PUBLISHED = Path("results") / "published"
_MARKERS = (("o", ORANGE), ("^", GREEN), ("s", PINK), ("D", BLACK))
_SHOWN_FROM = 0.5
"""Shares below this many per cent are left out of the confusion matrix's cells."""
_ERROR_RGB = (150, 0, 30)


@dataclass(frozen=True)
class Published:
    """One published result: ``values`` are per cent by class name, ``mean`` theirs as published."""

    name: str
    values: pd.Series
    mean: float


def published_iou(repository: Path) -> list[Published]:
    """Validation IoU of the course report's four parsers; none where the checkout lacks the file."""
    file = repository / PUBLISHED / "ce7454_per_class.csv"
    if not file.exists():
        return []
    return [Published(f"{r['model']} (CE7454)", r.drop(["model", "miou"]), r["miou"]) for _, r in _rows(file)]


def published_f1(repository: Path) -> list[Published]:
    """Class F1 of SegFace at 512 px and of the best earlier method in its table 1(b)."""
    file = repository / PUBLISHED / "segface_celebamask_hq.csv"
    if not file.exists():
        return []
    rows = {(r["method"], r["resolution"]): r for _, r in _rows(file)}
    chosen = [key for key in (("SegFace", 512), ("FP-LIIF", 512)) if key in rows]
    other = ["method", "venue", "resolution", "mean_f1", "mean_iou"]
    return [Published(" ".join(map(str, key)), rows[key].drop(other), rows[key]["mean_f1"]) for key in chosen]


def _rows(file: Path) -> Iterable[tuple[Hashable, pd.Series]]:
    return pd.read_csv(file).iterrows()


def of_classes(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``summary.csv`` that are classes, by name."""
    return summary[~summary["class"].isin([*AGGREGATES, *SUMMARY_ROWS, CHALLENGE_F, *HELEN_REGIONS])].set_index("class")


def coverage_figure(summary: pd.DataFrame, published: pd.Series | None, ours: str) -> Figure:
    """Share of the labelled pixels that each class takes, largest first (thesis, figure 4.1).

    Args:
        summary: ``summary.csv`` of a parsing or training run. published: per cent by class name, if there are any.
        ours: what the summary is of.
    """
    pixels = of_classes(summary)["pixels"].astype(float)
    share = (100 * pixels / pixels.sum()).sort_values(ascending=False, kind="stable")
    if published is not None:
        both = published[published.index.isin(share.index)].sort_values(ascending=False, kind="stable")
        share = share.reindex([*both.index, *(c for c in share.index if c not in both.index)])
    series = [(ours, share, SKY, "")]
    if published is not None:
        series.append(("thesis, figure 4.1", published.reindex(share.index), "white", "////"))
    place, height = np.arange(len(share)), 0.8 / len(series)
    with styled():
        figure = new_figure(6.5, 0.6 + 0.34 * len(share))
        ax = figure.subplots()
        for k, (name, values, colour, hatch) in enumerate(series):
            y = place + (k - (len(series) - 1) / 2) * height
            ax.barh(y, values, height, color=colour, edgecolor=BLACK, linewidth=0.6, hatch=hatch, label=name)
            for at, value in zip(y, values, strict=True):
                if not np.isnan(value):
                    ax.annotate(f"{value:.2f}", (value, at), (3, 0), textcoords="offset points", va="center", size=6.5)
        ax.set_yticks(place, share.index)
        ax.set(xlabel="share of pixels (%)", ylim=(len(share) - 0.4, -0.6))
        ax.margins(x=0.08)
        ax.grid(axis="x")
        ax.legend(loc="lower right")
    return figure


def bars_figure(summary: pd.DataFrame, column: str, published: Sequence[Published], ours: str, protocol: str) -> Figure:
    """``column`` (``iou`` or ``f1``) of every class as bars, with 95 % intervals for IoU, published values as markers.

    The last group is the mean: over all classes for IoU, without the background for F1.
    """
    table, aggregates = of_classes(summary), summary.set_index("class")
    names = {"iou": ("IoU", "miou", "mean"), "f1": ("F1", "mean_f1_no_background", "mean, no bg")}
    if len(published) > len(_MARKERS):
        raise ValueError(f"published: expected at most {len(_MARKERS)} results, got {len(published)}")
    title, mean, mean_name = names[column]
    classes = list(table.index)
    values = 100 * np.array([*table[column], aggregates.loc[mean, column]], float)
    place = np.array([*range(len(classes)), len(classes) + 0.5])
    with styled():
        figure = new_figure(9, 4.2)
        ax = figure.subplots()
        ax.bar(place, np.nan_to_num(values), 0.75, color=SKY, edgecolor=BLACK, linewidth=0.6, label=ours)
        if column == "iou" and "iou_low" in summary:
            _whiskers(ax, place, values, pd.concat([table, aggregates.loc[[mean]]]))
        # Side by side within the bar, or near values would cover each other.
        offsets = 0.75 * ((np.arange(len(published)) + 0.5) / max(len(published), 1) - 0.5)
        for result, offset, (marker, colour) in zip(published, offsets, _MARKERS, strict=False):
            theirs = np.array([*(result.values.get(c, np.nan) for c in classes), result.mean], float)
            (points,) = ax.plot(place + offset, theirs, marker, ls="none", label=result.name, mfc=colour, mec="white")
            points.set(markersize=5.5, markeredgewidth=0.6)
        said = [f"{c} (absent)" if np.isnan(v) else c for c, v in zip([*classes, mean_name], values, strict=True)]
        ax.set_xticks(place, said, rotation=45, ha="right", rotation_mode="anchor")
        ax.set(ylabel=f"{title} (%), protocol {protocol}", ylim=(0, 102), xlim=(-0.7, place[-1] + 0.7))
        ax.axvline(len(classes) - 0.25, color="0.6", lw=0.8)
        ax.grid(axis="y")
        handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        first = {ours: handles[ours], **handles}
        figure.legend(first.values(), first.keys(), loc="outside upper center", ncols=3)
    return figure


def _whiskers(ax: Axes, place: np.ndarray, values: np.ndarray, rows: pd.DataFrame) -> None:
    low, high = (100 * rows[end].to_numpy(float) for end in ("iou_low", "iou_high"))
    known = ~np.isnan(low) & ~np.isnan(values)
    # A percentile interval need not hold the value itself where a class is in very few photos.
    span = np.maximum(np.stack([values - low, high - values]), 0)[:, known]
    at, middle = place[known], values[known]
    ax.errorbar(at, middle, span, fmt="none", ecolor=BLACK, elinewidth=1, capsize=2.5, label="95 % interval")


def confusion_figure(confusion: pd.DataFrame, ours: str) -> Figure:
    """Of the pixels of each true class (row, 100 %), which share was given each class.

    Args:
        confusion: ``confusion.csv``: column ``truth`` and a column a class. Rows of absent classes stay grey.
    """
    from matplotlib.colors import PowerNorm

    classes = list(confusion["truth"])
    counts = confusion[classes].to_numpy(float)
    total = counts.sum(1, keepdims=True)
    share = np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)
    with styled():
        side = 1.6 + 0.31 * len(classes)
        figure = new_figure(side + 0.9, side)
        ax = figure.subplots()
        ax.set_facecolor("0.85")
        # The root makes a confusion of a few per cent visible beside a diagonal near 100.
        image = ax.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 100))
        for (row, column), value in np.ndenumerate(share):
            if value >= _SHOWN_FROM:
                colour = "white" if value > 45 else BLACK
                ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour)
        places = range(len(classes))
        ax.set_xticks(places, classes, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(places, classes)
        ax.set(xlabel="predicted", ylabel="true", title=ours)
        ax.spines[["top", "right"]].set_visible(True)
        ticks = [0, 1, 5, 10, 25, 50, 100]
        figure.colorbar(image, ax=ax, shrink=0.8, ticks=ticks, label="% of the true class's pixels")
    return figure


@dataclass(frozen=True)
class Strip:
    """A photo and what was made of it: uint8 ``[h, w, 3]``, integer label maps ``[H, W]`` of one space."""

    title: str
    photo: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


_STRIP_PX = 384


def strip_figure(strips: Sequence[Strip], space: LabelSpace) -> Figure:
    """A row a strip: photo, truth, prediction, and the wrong pixels dark on the faded photo; class colours below."""
    from matplotlib.patches import Patch

    colours = palette(space)
    with styled():
        figure = new_figure(8.4, 2.05 * len(strips) + 1.0)
        grid = figure.subplots(len(strips), 4, squeeze=False)
        for axes, strip in zip(grid, strips, strict=True):
            photo = cv2.resize(strip.photo, (_STRIP_PX, _STRIP_PX), interpolation=cv2.INTER_AREA)
            truth, predicted = (_shown(labels) for labels in (strip.truth, strip.predicted))
            for ax, picture in zip(axes, (photo, colours[truth], colours[predicted], None), strict=True):
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                ax.imshow(error_map(photo, truth, predicted) if picture is None else picture)
            axes[0].set_ylabel(strip.title, fontsize=8)
        for ax, caption in zip(grid[0], ("photo", "truth", "prediction", "error"), strict=True):
            ax.set_title(caption)
        there = np.unique(np.concatenate([m.ravel() for s in strips for m in (s.truth, s.predicted)]))
        patches = [Patch(color=colours[c] / 255, label=space.classes[c]) for c in there]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(10, len(patches)), fontsize=7)
    return figure


def _shown(labels: np.ndarray) -> np.ndarray:
    return cv2.resize(labels.astype(np.uint8), (_STRIP_PX, _STRIP_PX), interpolation=cv2.INTER_NEAREST_EXACT)


def error_map(photo: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """uint8 ``[H, W, 3]``: the photo in pale grey, wrong pixels dark red; darker than any other pixel in grey too."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    shown = np.repeat((140 + 0.45 * grey.astype(np.float32)).astype(np.uint8)[..., None], 3, axis=2)
    shown[truth != predicted] = _ERROR_RGB
    return shown


def draw_parsing_figures(folder: Path, out: Path, repository: Path) -> None:
    """``coverage``, ``class_iou``, ``class_f1`` and ``confusion`` (PNG and PDF) into ``out``, from a run's record.

    Args:
        folder: a run of ``task=parsing``, or of a training (its validation scores).
        repository: checkout whose ``results/published`` holds the papers' numbers.

    Raises:
        UserError: the folder holds no run, or it has no summary yet.
    """
    run = read_run(folder)
    if not (folder / "summary.csv").exists():
        raise UserError(f"{folder}: no summary.csv, so the run has not come to its end; repeat its command")
    draw_scores(folder, out, repository, run_name(run), run["identity"]["config"].get("protocol", "strict"))


def draw_scores(folder: Path, out: Path, repository: Path, ours: str, protocol: str) -> None:
    """The same from a folder with ``summary.csv`` and perhaps ``confusion.csv``, such as a training's ``test``.

    Args:
        ours: what the scores are of, for the legends.
    """
    summary = read_table(folder / "summary.csv")
    if "miou" not in set(summary["class"]):
        raise UserError(f"{folder / 'summary.csv'}: no row miou, so it was cut; copy it again, or repeat the run")
    save_figure(coverage_figure(summary, published_coverage(repository), f"{ours}: labels"), out / "coverage")
    for column, published in (("iou", published_iou(repository)), ("f1", published_f1(repository))):
        save_figure(bars_figure(summary, column, published, ours, protocol), out / f"class_{column}")
    confusion = recorded_confusion(folder, list(of_classes(summary).index))
    if confusion is not None:
        save_figure(confusion_figure(confusion, ours), out / "confusion")


def published_coverage(repository: Path) -> pd.Series | None:
    """Per cent by class name of the thesis's figure 4.1; ``None`` where the checkout lacks the file."""
    file = repository / PUBLISHED / "semfacediff_figure_4_1.csv"
    return pd.read_csv(file).set_index("class")["percent"] if file.exists() else None


def run_name(run: dict) -> str:
    """What a training or parsing run's scores are of, for legends."""
    parser = run.get("parser") or run["identity"]["config"]["parser"]
    return f"{parser['name']}, {run['n']} photos" if run["task"] == "parsing" else f"{parser['name']}, validation"


def recorded_confusion(folder: Path, classes: list[str]) -> pd.DataFrame | None:
    """``confusion.csv``, or what the photos' rows of an older record add up to; ``None`` where neither is kept."""
    if (folder / "confusion.csv").exists():
        return read_table(folder / "confusion.csv")
    if not (folder / "samples.parquet").exists():
        return None
    rows = read_table(folder / "samples.parquet", "confusion", columns=("sample_id", "status", "confusion"))[
        "confusion"
    ].dropna()
    pooled = sum((dense(triples, len(classes)) for triples in rows), np.zeros((len(classes),) * 2, np.int64))
    table = pd.DataFrame(pooled, columns=classes)
    table.insert(0, "truth", classes)
    return table


def draw_run(folder: Path, out: Path, repository: Path) -> None:
    """Every figure that the record of a training or parsing run gives.

    Raises:
        UserError: the folder holds no such run.
    """
    task = read_run(folder)["task"]
    if task not in ("parsing", "train_parser"):
        raise UserError(f"{folder}: expected a run of train_parser.py or task=parsing, got task {task}")
    if (folder / "history.csv").exists():
        training_curves(folder / "history.csv", out / "curves.png")
    draw_parsing_figures(folder, out, repository)

"""Curves of a sweep: every score against the setting, with intervals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semfacediff.errors import UserError
from semfacediff.tables.ablation import ALL, Setting, edit_rows, interval_values, parser_values, read_sweep, spelt
from semfacediff.tables.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    Axes,
    Figure,
    new_figure,
    save_figure,
    styled,
)
from semfacediff.tables.grid import Value
from semfacediff.tables.scores import OF_PARSERS, OF_SETS, column, edit_scores, refuse_unknown

_SHOWN = ("lpips", "lpips_raw", "ssim", "ssim_raw", "iou", "clip", "seam", "seam_raw", "geometry_shift_pct")
_LOOKS = (
    *((BLACK, "o", "-"), (BLUE, "s", "--"), (ORANGE, "^", "-."), (GREEN, "D", ":")),
    *((PINK, "v", (0, (5, 1))), (SKY, "P", (0, (3, 1, 1, 1))), ("0.45", "X", (0, (1, 1)))),
)
"""Colour, marker and line of each series; more series than looks begin again with hollow markers."""
_COLUMNS = 3
_SPREAD = 0.5
"""Of the distance between two words on the x axis: how far series of one word lie apart."""
_NARROWEST = 20
"""Height of a panel at least, in units of the last digit that tables show."""

Series = dict[str, dict[str, list[Value | None]]]
"""Score -> series (an attribute) -> a value for each setting."""


def curves(settings: Sequence[Setting], names: Sequence[str]) -> Series:
    """Values with intervals of every setting, by score and attribute; without scores that no setting has."""
    if settings[0].run["task"] != "editing":
        of_parsers = [parser_values(s, names) for s in settings]
        series: Series = {name: {"validation": [values[name] for values in of_parsers]} for name in names}
    else:
        found = [interval_values(edit_rows(s, names), names) for s in settings]
        attributes = list(dict.fromkeys(attribute for values in found for attribute, _ in values))
        series = {n: {a: [values.get((a, n)) for values in found] for a in attributes} for n in names}
    return {n: lines for n, lines in series.items() if any(v and not v.missing for vs in lines.values() for v in vs)}


def ablation_figure(settings: Sequence[Setting], series: Series) -> Figure:
    """A panel a score; the setting on the x axis, to scale where it is one number, else as words.

    Series are told apart by colour, marker and line; bars are 95 % intervals of the means.
    """
    scaled, places, words, title = _axis(settings)
    wide = min(_COLUMNS, len(series))
    rows = -(-len(series) // wide)
    with styled():
        figure = new_figure(0.6 + 2.9 * wide, 0.7 + 2.5 * rows)
        panels = figure.subplots(rows, wide, squeeze=False).ravel()
        for ax, (name, lines) in zip(panels, series.items(), strict=False):
            shown = column(name, settings[0].run)
            for k, (label, values) in enumerate(lines.items()):
                shift = 0 if scaled else _SPREAD * ((k + 0.5) / len(lines) - 0.5)
                _series(ax, places + shift, values, label, k, scaled, shown.factor)
            direction = {True: " (up)", False: " (down)", None: ""}[shown.up]
            ax.set(ylabel=f"{shown.heading}{direction}", xlabel=title)
            ax.ticklabel_format(axis="y", useOffset=False)
            low, high = ax.get_ylim()
            if high - low < (narrow := _NARROWEST * 10.0**-shown.digits):  # all the same but for the last bits
                ax.set_ylim((low + high - narrow) / 2, (low + high + narrow) / 2)
            if not scaled or len(places) <= 8:
                turned = max(map(len, words)) > 6
                rotation = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if turned and not scaled else {}
                ax.set_xticks(places, words, **rotation)
            if not scaled:
                ax.set_xlim(-0.6, len(places) - 0.4)
            ax.grid(True, axis="y" if not scaled else "both")
        for ax in panels[len(series) :]:
            ax.set_axis_off()
        if max(map(len, series.values())) > 1:
            handles = {label: h for ax in panels for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
            figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(7, len(handles)))
    return figure


def _axis(settings: Sequence[Setting]) -> tuple[bool, np.ndarray, list[str], str]:
    """(whether to scale, place of every setting, its name, the axis' name)."""
    keys = list(settings[0].values)
    if len(keys) == 1:
        values = [s.values[keys[0]] for s in settings]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            return True, np.array(values, float), [f"{v:g}" for v in values], keys[0]
        return False, np.arange(len(values), dtype=float), [spelt(v) for v in values], keys[0]
    words = [", ".join(spelt(v) for v in s.values.values()) or s.run["run_id"] for s in settings]
    return False, np.arange(len(words), dtype=float), words, ", ".join(keys)


def _series(
    ax: Axes, places: np.ndarray, values: Sequence[Value | None], label: str, k: int, joined: bool, factor: float
) -> None:
    there = [i for i, v in enumerate(values) if v is not None and not v.missing]
    mean, low, high = (np.array([factor * getattr(values[i], e) for i in there]) for e in ("mean", "low", "high"))
    spans = np.nan_to_num(np.stack([mean - low, high - mean])).clip(0)
    colour, marker, line = _LOOKS[k % len(_LOOKS)]
    ax.errorbar(
        places[there],
        mean,
        spans,
        label=label,
        elinewidth=0.9,
        capsize=2,
        color=colour,
        marker=marker,
        ls=line if joined else "none",
        ms=4,
        mfc="white" if k >= len(_LOOKS) else "auto",
        lw=2 if label == ALL else 1.2,
        zorder=3 if label == ALL else 2,
    )


def draw_sweep(sweep: Path, out: Path, names: Sequence[str] = ()) -> None:
    """``curves`` as PNG and PDF into ``out``, from the finished runs of a sweep.

    Args:
        names: scores; those usually asked for if empty.

    Raises:
        UserError: no finished run, an unknown score, or no value of the scores asked for.
    """
    settings = read_sweep(sweep)
    if not settings:
        raise UserError(f"{sweep}: no finished run of a sweep; name the folder that holds the folders of its runs")
    of_edits = settings[0].run["task"] == "editing"
    refuse_unknown(
        names,
        [n for n in edit_scores() if n not in OF_SETS] if of_edits else list(OF_PARSERS),
        str(sweep),
    )
    series = curves(settings, list(names) or (list(_SHOWN) if of_edits else list(OF_PARSERS)))
    if not series:
        raise UserError(
            f"{sweep}: none of its runs has a value of {', '.join(names or _SHOWN)}; name others with --score"
        )
    save_figure(ablation_figure(settings, series), out / "curves")

"""Metrics x controls: what every metric makes of known damages, and whether it orders them as it declares."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semfacediff.controls import PIXELS, SYSTEM, TRUE_MASK, contradicted
from semfacediff.errors import UserError
from semfacediff.records.folder import read_run
from semfacediff.records.ledger import finished_runs
from semfacediff.tables.ablation import ALL, Setting, edit_rows, read_sweep, unfinished
from semfacediff.tables.drawing import Figure, new_figure, save_figure, styled
from semfacediff.tables.formats import number
from semfacediff.tables.grid import Grid, Row, Value
from semfacediff.tables.scores import OF_SETS, column, edit_scores, refuse_unknown
from semfacediff.tables.text import judged_by

_SHOWN = (
    *("change_de_raw", "toward_prompt_raw", "structure_change_raw"),
    *("shift_px_raw", "zoom_pct_raw"),
    *("ssim_raw", "psnr_outside_raw", "max_abs_outside_raw", "lpips_raw", "seam_raw"),
    *("iou_raw", "geometry_shift_pct_raw", "parts_lost_raw", "clip_raw"),
)


def of_controls(sweep: Path) -> bool:
    """Whether a sweep's finished runs are of ``editor=control``."""
    runs = [read_run(folder) for _, folder in finished_runs(sweep)]
    return bool(runs) and all(run.get("editor", {}).get("name") == "control" for run in runs)


def control_means(sweep: Path, names: Sequence[str], command: str) -> tuple[dict[str, dict[str, Value]], dict, int]:
    """(control -> score -> mean over its edits of all attributes, a run's ``run.json``, most edits behind a mean).

    Infinite values enter a mean only where there is no other. Controls come in the order of
    :data:`semfacediff.controls.PIXELS` and ``SYSTEM``; missing ones are left out.

    Raises:
        UserError: no finished run, runs that differ in more than the control, or an unknown score.
    """
    settings = read_sweep(sweep)
    if not settings:
        raise UserError(f"{sweep}: no finished run; make the sweep with: {command}")
    of_control = of_controls(sweep)
    own = ["editor.kind", *(("parser", "judge") if of_control and _same_parser(settings) else ())]
    more = sorted(k for k in settings[0].values if k not in own and not k.startswith("editor.of."))
    if more or not of_control:
        got = f"runs that also differ in {', '.join(more)}" if more else "runs of another editor"
        raise UserError(f"{sweep}: expected runs of editor=control that differ in editor.kind, got {got}")
    refuse_unknown(names, [n for n in edit_scores() if n not in OF_SETS], str(sweep))
    found, n = {}, 0
    for setting in settings:
        rows = edit_rows(setting, names)
        rows = rows[rows["attribute"] == ALL] if (rows["attribute"] == ALL).any() else rows
        found[_kind(setting)] = {x: Value(_mean(rows[x].to_numpy())) for x in names}
        n = max(n, len(rows))
    shown = next(s.run for s in settings if _kind(s) != TRUE_MASK or len(settings) == 1)
    return {kind: found[kind] for kind in (*PIXELS, *SYSTEM) if kind in found}, shown, n


def _kind(setting: Setting) -> str:
    return setting.run["identity"]["config"]["editor"]["kind"]


def _same_parser(settings: Sequence[Setting]) -> bool:
    """Whether one parser made the masks of all controls, but for those of the labels, and one judged all."""
    inputs = [(_kind(s), s.run["identity"]["inputs"]) for s in settings]
    masks = {of.get("parser") for kind, of in inputs if kind != TRUE_MASK}
    return len(masks) <= 1 and len({of.get("judge", of.get("parser")) for _, of in inputs}) == 1


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    finite = known[np.isfinite(known)]
    return float(finite.mean()) if finite.size else float(known[0]) if known.size else float("nan")


def controls_grid(sweep: Path, names: Sequence[str], command: str) -> Grid:
    """A row a control, a column a score; notes say which declared orders hold.

    Raises:
        UserError: as :func:`control_means`.
    """
    means, run, n = control_means(sweep, names, command)
    rows = [Row((kind,), tuple(values.values())) for kind, values in means.items()]
    config = run["identity"]["config"]
    notes = [
        f"means over {n} edits of {', '.join(config['attributes'])}, protocol {config['protocol']}, parser "
        f"{run['parser']['name']}{judged_by(run)}; infinite values count only where there are no others"
    ]
    if config["protocol"] == "strict":
        notes += _orders(means, names, config["metrics"]["columns"])
    left = [kind for kind in (*PIXELS, *SYSTEM) if kind not in means]
    notes += [f"not run: {', '.join(left)}"] if left else []
    notes += [f"unfinished and left out: {', '.join(cells)}"] if (cells := unfinished(sweep)) else []
    return Grid(("control",), tuple(column(name, run) for name in names), rows, notes=notes)


def _orders(means: dict[str, dict[str, Value]], names: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Which of the relations that the metrics declare hold between the means of ``*_raw`` columns."""
    from semfacediff.metrics.opening import declared_orders  # loads the networks' libraries

    wrong: list[str] = []
    checked = 0
    for name, chains in declared_orders(metrics).items():
        if f"{name}_raw" in names:
            of_score = {kind: values[f"{name}_raw"].mean for kind, values in means.items()}
            broken, n = contradicted(chains, of_score)
            wrong, checked = wrong + [f"{name}: {said}" for said in broken], checked + n
    return [f"orders that the metrics declare: {checked - len(wrong)} of {checked} hold" + "; ".join(["", *wrong])]


def controls_figure(means: dict[str, dict[str, Value]], names: Sequence[str], run: dict) -> Figure:
    """A heat map, a row a score, a column a control: how far each mean lies from that of ``nothing``.

    Shades run from 0 to the row's largest distance, infinite values counting as the row's largest finite one; the means
    stand in the cells.
    """
    kinds = list(means)
    values = np.array([[means[kind][name].mean for kind in kinds] for name in names])
    finite = np.array([np.where(np.isinf(row), np.max(row, initial=0, where=np.isfinite(row)), row) for row in values])
    distance = np.nan_to_num(np.abs(finite - finite[:, [kinds.index("nothing")]]))
    shade = distance / np.maximum(distance.max(1, keepdims=True), np.finfo(float).tiny)
    with styled():
        figure = new_figure(2.2 + 0.72 * len(kinds), 1.3 + 0.38 * len(names))
        ax = figure.subplots()
        ax.imshow(shade, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
        columns = [column(name, run) for name in names]
        for i, j in np.argwhere(~np.isnan(values)):
            text, white = number(values[i, j], columns[i]), shade[i, j] > 0.8
            ax.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if white else "black")
        words = [kind.replace("_", " ") for kind in kinds]
        ax.set_xticks(range(len(kinds)), words, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), [shown.heading.removesuffix(" raw") for shown in columns])
        ax.set_title("Means before the composite; the darker, the farther from doing nothing")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    return figure


def draw_controls(sweep: Path, out: Path, names: Sequence[str] = ()) -> None:
    """``controls`` as PNG and PDF into ``out``; without ``names`` the usual scores that were measured.

    Raises:
        UserError: as :func:`control_means`; none of the scores was measured, or no run of ``nothing``.
    """
    means, run, _ = control_means(sweep, list(names) or _SHOWN, "")
    measured = [n for n in list(names) or _SHOWN if any(not values[n].missing for values in means.values())]
    if "nothing" not in means or not measured:
        raise UserError(f"{sweep}: expected a finished run of editor.kind=nothing and a measured score; run it first")
    save_figure(controls_figure(means, measured, run), out / "controls")

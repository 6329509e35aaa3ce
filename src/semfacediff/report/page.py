"""Renders the page."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from semfacediff import __version__
from semfacediff.labels import palette, space
from semfacediff.report import (
    ablation,
    analyses,
    charts,
    editors,
    finding,
    generation,
    headline,
    naming,
    overview,
    sample_rows,
    showcase,
)
from semfacediff.report.reading import EDITING, PARSING, SYNTHESIS, TRAINING, TRAININGS, Record

_TEMPLATES = "templates"
_WITH_MAPS = (EDITING, SYNTHESIS)


def render(
    records: Sequence[Record],
    unread: dict[str, str],
    repository: Path,
    command: str,
    rank: sample_rows.Score | None,
    pictures: sample_rows.Pictures | None = None,
) -> str:
    """Render the page as self-contained HTML.

    Args:
        unread: folder -> why it is not shown. repository: root of the published numbers.
        command: reproduces this page. rank: initial score for the order of samples.
        pictures: of the samples, if the user requested photos.
    """
    records, environment = list(records), _environment()
    curves, left_out = ablation.ablations(records)
    parsing = [r for r in records if r.task in (PARSING, TRAINING) and r.summary is not None]
    script = _file("report.js")
    return environment.get_template("page.html").render(
        title=naming.title(records),
        version=__version__,
        command=command,
        unread=unread,
        runs=[overview.overview(r) for r in records],
        findings=finding.findings(records, repository),
        missing_weights=finding.missing_weights(records),
        four=finding.four_pictures(records, rank, pictures),
        headline=headline.editing_headline(records, repository),
        means=[(r.id, _means(r)) for r in records if r.task == EDITING],
        kinds=[(r.id, table) for r in records if (table := headline.kinds(r)) is not None],
        editors=editors.editors(records),
        speeds=generation.speed_table(records),
        speed_chart=generation.speed_chart(records),
        galleries=[g for i, r in enumerate(records) if (g := _gallery(i, r, pictures)) is not None],
        distributions=analyses.distributions([r for r in records if r.task not in TRAININGS]),
        bins=charts.BINS,
        ablations=curves,
        left_out=left_out,
        trainings=[(r.id, training_curves(r)) for r in records if r.history is not None],
        classes=[(r.id, *headline.class_rows(r, repository)) for r in parsing],
        confusions=[(r.id, analyses.confusion_map(r.confusion)) for r in parsing if r.confusion is not None],
        strata=[(r.id, *analyses.strata(r)) for r in records if r.task == EDITING],
        leakages=[(r.id, analyses.leakage_map(r)) for r in records if r.task == EDITING],
        group=sample_rows.group_name(records),
        samples=sample_rows.payload(records, rank, pictures),
        n_rows=sum(len(r.samples) for r in records),
        pictures=pictures,
        legend=_legend(records) if pictures else [],
        style=_file("report.css"),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


def _gallery(i: int, record: Record, pictures: sample_rows.Pictures | None) -> showcase.Gallery | None:
    shown = None if pictures is None else {file: uri for (run, file), uri in pictures.showcases.items() if run == i}
    return showcase.gallery(record, shown)


def _environment() -> jinja2.Environment:
    """Environment that escapes all output; an undefined name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("semfacediff.report", _TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The tojson filter also escapes what could end a script block; NaN is not valid JSON.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def _file(name: str) -> str:
    """Our own style or script, which alone enters the page as it is."""
    return (resources.files("semfacediff.report") / _TEMPLATES / name).read_text(encoding="utf-8")


def _means(record: Record) -> list[tuple[str, list[tuple[sample_rows.Score, str]]]]:
    """Attribute -> (score, mean with its interval), of final scores."""
    scores = [s for s in analyses.scores_of(record) if not s.name.endswith(analyses.RAW)]
    known = analyses.means(record)
    out: dict[str, list[tuple[sample_rows.Score, str]]] = {}
    for s in scores:
        for (attribute, name), (mean, low, high) in known.items():
            if name == s.name and pd.notna(mean):
                spread = "" if pd.isna(low) else f" [{s.text(low)}, {s.text(high)}]"
                out.setdefault(attribute, []).append((s, s.text(mean) + spread))
    return list(out.items())


def training_curves(record: Record) -> list[charts.LineChart]:
    """Losses, mean IoUs and rates by epoch or step, if ``history.csv`` has them."""
    history = record.history
    if history is None or history.empty or not (at := next((c for c in ("epoch", "step") if c in history), None)):
        return []
    groups = {
        "loss": [c for c in history if str(c).endswith("_loss")],
        "mean IoU, %": [c for c in history if "miou" in str(c)],
        "learning rate": [c for c in history if c == "lr" or str(c).endswith("_lr")],
    }
    made = []
    for title, names in groups.items():
        factor = 100 if "%" in title else 1
        series = {}
        for name in names:
            rows = history[[at, name]].apply(pd.to_numeric, errors="coerce").dropna()
            nan = float("nan")
            series[str(name).replace("_", " ")] = [(float(e), factor * float(v), nan, nan) for e, v in rows.to_numpy()]
        if any(series.values()):
            made.append(charts.line_chart(title, at, {k: v for k, v in series.items() if v}))
    return made


def _legend(records: Sequence[Record]) -> list[tuple[str, str]]:
    """(class, colour) of the label maps shown."""
    facts = [r.run.get("parser" if r.task == EDITING else "measured") for r in records if r.task in _WITH_MAPS]
    names = {str((of or {}).get("label_space") or "celebamask") for of in facts}
    found = {
        c: "#" + bytes(rgb).hex()
        for n in sorted(names)
        for c, rgb in zip(space(n).classes, palette(space(n)), strict=True)
    }
    return list(found.items())

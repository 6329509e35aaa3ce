"""Texts of the page as HTML. External text is escaped here and nowhere else."""

import re
from html import escape

import numpy as np

from semfacediff.labels import LabelSpace, in_words, palette
from semfacediff.report.overview import overview
from semfacediff.report.reading import Record
from semfacediff.web.pictures import ENLARGED_PX
from semfacediff.web.portrait import Audit, Portrait, attribute_of, outside_scores
from semfacediff.web.styling import INTERPOLATION_WEIGHTS, Face, StyleModel, StyleResult

_LEAST_SHARE = 0.0005


def status_message(text: str) -> str:
    """A status message; screen readers announce it."""
    return f'<p role="status" class="message">{escape(text)}</p>'


def error_message(text: str) -> str:
    """An error message."""
    return f'<p role="alert" class="message error">{escape(text)}.</p>'


def faces_seen(n: int, used: str) -> str:
    """Number of faces in a parse and which is ``used`` (a participle)."""
    known = {0: f"no face: the whole parse is {used}", 1: "one face"}
    return known.get(n, f"{n} faces: the largest is {used}")


def portrait(loaded: Portrait) -> str:
    """Description of a loaded photo."""
    height, width = loaded.photo.shape[:2]
    n = len(loaded.faces.shares) if loaded.faces else 0
    own = "{1} x {0} px, scaled down to ".format(*loaded.own_size) if loaded.scaled else ""
    return f"{loaded.name}: {own}{width} x {height} px, {faces_seen(n, 'edited')}."


def legend(portrait: Portrait, space: LabelSpace) -> str:
    """Classes of the parse with their colours and shares, largest first."""
    return _legend(portrait.labels_now, space, "Classes of the parse")


def face_legend(found: Face, which: str, space: LabelSpace) -> str:
    """The same of the ``first`` or ``second`` of two photos."""
    return _legend(found.sample.label_map, space, f"Classes of the {which} photo's parse")


def _legend(labels: np.ndarray, space: LabelSpace, of: str) -> str:
    colours, shares = palette(space), np.bincount(labels.ravel(), minlength=space.n) / labels.size
    items = [_class(space.classes[i], colours[i], shares[i]) for i in np.argsort(-shares) if shares[i] >= _LEAST_SHARE]
    return f'<ul class="legend" aria-label="{escape(of)}">{"".join(items)}</ul>'


def _class(name: str, colour: np.ndarray, share: float) -> str:
    swatch = f'<span class="swatch" style="background:#{bytes(colour).hex()}"></span>'
    attribute = attribute_of(name)
    edits = f" → {attribute}" if attribute and attribute != in_words(name) else ""
    return f"<li>{swatch}{escape(in_words(name))} <small>{100 * share:.1f} %{edits}</small></li>"


def audit_facts(audit: Audit) -> str:
    """How the editor reads the prompt."""
    lines = []
    if audit.understood is not None:
        lines.append(("Recognised", ", ".join(audit.understood) or "nothing: the region stays unchanged"))
        if audit.unused:
            lines.append(("Ignored", ", ".join(audit.unused)))
    for i, reading in enumerate(audit.readings, 1):
        limit = "" if reading.limit is None else f" of {reading.limit}"
        lines.append((f"Tokenizer {i}", f"{reading.tokens}{limit} tokens ({reading.tokenizer})"))
        lines += [("Truncated", reading.lost)] if reading.lost else []
    lines += [
        (name, text)
        for name, text in (("Expanded prompt", audit.expanded), ("Negative prompt", audit.negative))
        if text
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines)
    return (f'<dl class="words">{rows}</dl>' if rows else "") + (error_message(audit.problem) if audit.problem else "")


def history(portrait: Portrait) -> str:
    """The edits so far, and the largest change outside their regions."""
    if not portrait.steps:
        return "<p>No edit yet.</p>"
    items = "".join(
        f"<li><b>{escape(s.form.attribute)}</b>: {escape(s.form.prompt)} <small>{escape(s.form.editor)}, "
        f"{s.facts['seconds']:.1f} s{escape(_noted(s.facts['note']))}</small></li>"
        for s in portrait.steps
    )
    largest = outside_scores(portrait)["max_abs_outside"]
    kept = "no pixels outside" if largest is None else f"largest change outside: {largest:.0f} of 255"
    return f'<ol class="history">{items}</ol><p>{kept}</p>'


def _noted(note: str | None) -> str:
    return f"; {note}" if note else ""


def face(found: Face) -> str:
    """Description of a photo and of its preprocessing."""
    done = f"; {found.changed}" if found.changed else ""
    return f"{found.name}, {found.width} x {found.height} px, {faces_seen(found.count, 'used')}{done}."


def style_model(model: StyleModel) -> str:
    """Description of the synthesis model."""
    rows = f"<dt>Model</dt><dd>SCA-DM of {model.size} x {model.size} px</dd>"
    run = model.training.get("run")
    rows += f"<dt>Trained by</dt><dd>{escape(str(run))}</dd>" if run else ""
    untrained = "" if model.training else error_message("The model is untrained: its card names no training")
    return f'<dl class="words">{rows}</dl>{untrained}'


def style_result(found: StyleResult, size: int) -> str:
    """Caption of the result, and its notes."""
    between = f"first photo, style weights {', '.join(f'{w:g}' for w in INTERPOLATION_WEIGHTS)}, second photo"
    second = "first photo, second photo, result" if found.facts["second"] else "first photo, result"
    order = between if len(found.images) > 1 else second
    enlarged = f", enlarged to {ENLARGED_PX} px (bicubic) for display" if size < ENLARGED_PX else ""
    text = f"From left to right: {order}; at the model's {size} px{enlarged}. {found.facts['seconds']:.1f} s."
    said = [re.sub(r"\w+", lambda word: in_words(word[0]), note) for note in found.notes]
    notes = "".join(f"<li>{escape(note)}</li>" for note in said)
    return f"<p><b>Result.</b> {escape(text)}</p>" + (f'<ul class="notes">{notes}</ul>' if notes else "")


def run_facts(record: Record) -> str:
    """Facts and command of a run, and missing files of its record."""
    about = overview(record)
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in about.facts)
    alerts = "".join(error_message(text) for text in [*about.alerts, *about.missing])
    return f'{alerts}<dl class="words">{rows}</dl><pre class="command">{escape(about.command)}</pre>'

"""What the page says, as HTML. Whatever came from a visitor or a record is escaped here and nowhere else."""

from html import escape

import numpy as np

from semfacediff.labels import LabelSpace, palette
from semfacediff.report.overview import overview
from semfacediff.report.reading import Record
from semfacediff.web.portrait import Audit, Portrait, attribute_of, kept_outside

_LEAST_SHARE = 0.0005


def said(text: str) -> str:
    """A sentence that is read out when it appears."""
    return f'<p role="status" class="said">{escape(text)}</p>'


def refused(text: str) -> str:
    """A sentence about something that was not done."""
    return f'<p role="alert" class="said refused">{escape(text)}.</p>'


def legend(portrait: Portrait, space: LabelSpace) -> str:
    """The classes of the parse with their colours and shares, largest first."""
    labels, colours = portrait.labels_now, palette(space)
    shares = np.bincount(labels.ravel(), minlength=space.n) / labels.size
    items = [_class(space.classes[i], colours[i], shares[i]) for i in np.argsort(-shares) if shares[i] >= _LEAST_SHARE]
    return f'<ul class="legend" aria-label="Classes of the parse">{"".join(items)}</ul>'


def _class(name: str, colour: np.ndarray, share: float) -> str:
    swatch = f'<span class="swatch" style="background:#{bytes(colour).hex()}"></span>'
    attribute = attribute_of(name)
    edits = f" → {attribute}" if attribute and attribute != name else ""
    return f"<li>{swatch}{escape(name)} <small>{100 * share:.1f} %{edits}</small></li>"


def words(audit: Audit) -> str:
    """What the editor makes of the prompt."""
    lines = []
    if audit.understood is not None:
        lines.append(("Understood", ", ".join(audit.understood) or "nothing: the region is kept as it is"))
        if audit.unused:
            lines.append(("Without effect", ", ".join(audit.unused)))
    for i, reading in enumerate(audit.readings, 1):
        limit = "" if reading.limit is None else f" of {reading.limit}"
        lines.append((f"Tokenizer {i}", f"{reading.tokens}{limit} tokens ({reading.tokenizer})"))
        lines += [("Lost", reading.lost)] if reading.lost else []
    lines += [(name, text) for name, text in (("Told instead", audit.expanded), ("Avoids", audit.negative)) if text]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines)
    return (f'<dl class="words">{rows}</dl>' if rows else "") + (refused(audit.problem) if audit.problem else "")


def history(portrait: Portrait) -> str:
    """The edits so far, and what lies outside of them."""
    if not portrait.steps:
        return "<p>No edit yet.</p>"
    items = "".join(
        f"<li><b>{escape(s.ask.attribute)}</b>: {escape(s.ask.prompt)} <small>{escape(s.ask.editor)}, "
        f"{s.facts['seconds']:.1f} s{escape(_noted(s.facts['note']))}</small></li>"
        for s in portrait.steps
    )
    largest = kept_outside(portrait)["max_abs_outside"]
    kept = "no pixel is outside" if largest is None else f"largest change outside: {largest:.0f} of 255"
    return f'<ol class="history">{items}</ol><p>{kept}</p>'


def _noted(note: str | None) -> str:
    return f"; {note}" if note else ""


def run_facts(record: Record) -> str:
    """What ran and on what, and what of its record is missing."""
    about = overview(record)
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in about.facts)
    alerts = "".join(refused(text) for text in [*about.alerts, *about.missing])
    return f'{alerts}<dl class="words">{rows}</dl><pre class="command">{escape(about.command)}</pre>'

"""A table as Markdown, as LaTeX or as CSV. Words may be anyone's: each format escapes what it would read as its own."""

import csv
import io
import re
import unicodedata

from semfacediff.tables.grid import Cell, Column, Grid, Row, Value

FORMATS = ("md", "tex", "csv")


def rendered(grid: Grid, form: str) -> str:
    """The table in one of :data:`FORMATS`, with a newline at its end."""
    return {"md": as_markdown, "tex": as_latex, "csv": as_csv}[form](grid)


def number(value: float, column: Column) -> str:
    """``value`` as the column shows it; what rounds to 0 has no sign."""
    text = f"{column.factor * value:.{column.digits}f}"
    return text if text.strip("-0.") else text.removeprefix("-")


# --------------------------------------------------------------------------------------------------------------------
# Markdown.


def markdown(headings: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table, padded so that it also reads well in a terminal; the first ``left`` columns are left-aligned.

    The cells are Markdown already.
    """
    widths = [max(2, *(len(r[i]) for r in (headings, *rows))) for i in range(len(headings))]
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = [
        [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (headings, rule, *rows)
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown_text(words: str) -> str:
    """Words as Markdown shows them letter by letter, on one line and within one cell."""
    words = " ".join(words.split("\n")).replace("\r", " ")
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    words = re.sub(r"([\\`*|\[\]])", r"\\\1", words)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", words)  # within a word it emphasises nothing


def markdown_code(words: str) -> str:
    """Words as Markdown code, on one line."""
    words = " ".join(words.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    pad = " " if "`" in words else ""
    return f"{fence}{pad}{words}{pad}{fence}"


def heading(column: Column) -> str:
    """What stands above a column: its name and the direction of better values."""
    return column.heading + {True: " (up)", False: " (down)", None: ""}[column.up]


def table_markdown(grid: Grid) -> str:
    """The table alone, without title and notes."""
    headings = [*grid.labels, *(heading(column) for column in grid.columns)]
    rows = []
    for row in grid.rows:
        labels = [_indented(label) for label in row.labels]
        if row.strong:
            labels[0] = f"**{labels[0]}**"
        rows.append([*labels, *(_markdown_cell(*pair) for pair in zip(row.cells, grid.columns, strict=True))])
    return markdown(headings, rows, len(grid.labels))


def _indented(label: str) -> str:
    words = label.lstrip(" ")
    return " " * (len(label) - len(words)) + markdown_text(words)


def _markdown_cell(cell: Cell, column: Column) -> str:
    if isinstance(cell, str):
        return markdown_text(cell)
    if cell is None or cell.missing:
        return ""
    mean, spread = parts(cell, column)
    mean = f"**{mean}**" if cell.best else mean
    return mean + spread.replace("±", " ± ")


def parts(value: Value, column: Column) -> tuple[str, str]:
    """A number as text, and what stands behind it.

    ``±sd``, ``±sd (within sd)`` of repeats, `` [low, high]`` (interval), `` (low to high)`` (range of few values), or
    nothing.
    """
    spread = ""
    if value.sd == value.sd:
        spread = "±" + number(value.sd, column)
        spread += f" (within {number(value.within, column)})" if value.within == value.within else ""
    elif value.low == value.low and value.high == value.high:
        low, high = number(value.low, column), number(value.high, column)
        spread = f" ({low} to {high})" if value.few else f" [{low}, {high}]"
    return number(value.mean, column), spread


def as_markdown(grid: Grid) -> str:
    """Title, table, notes and command."""
    lines = [f"# {markdown_text(grid.title)}", "", table_markdown(grid), ""]
    lines += [f"- {markdown_text(note)}" for note in grid.notes]
    lines += [f"- Command: {markdown_code(grid.command)}"] if grid.command else []
    return "\n".join([*lines, ""])


# --------------------------------------------------------------------------------------------------------------------
# LaTeX.

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # at the beginning of a row it would be an option of the line break before, like a star
    "*": "{*}",
    "]": "{]}",
    "±": r"$\pm$",
    **{c: f"\\{c}" for c in "$%&#_"},
}
_SET_UP = {chr(c) for c in range(0xA0, 0x17F)} - set("\u00adĦħĸĿŀŉŦŧ") | set("–—‘’‚“”„†‡•…‰‹›€™←↑→↓")
"""Characters beyond ASCII that pdfLaTeX knows without further packages; any other would stop it."""


def latex_text(words: str) -> str:
    """Words as LaTeX prints them letter by letter, on one line (``\\usepackage[T1]{fontenc}``).

    Characters that pdfLaTeX has not (other scripts, emoji) are printed as their code, such as [U+1F98A].
    """
    printed = "".join(map(_latex_character, unicodedata.normalize("NFC", " ".join(words.split()))))
    return re.sub("([-,])(?=\\1)", r"\1{}", printed)  # two of them would become a dash or a quotation mark


def _latex_character(c: str) -> str:
    if c in _SET_UP or (c.isascii() and c.isprintable()):
        return _LATEX.get(c, c)
    return f"{{[}}U+{ord(c):04X}{{]}}"


def as_latex(grid: Grid) -> str:
    """A ``table`` in the style of booktabs, notes and command below it in small print."""
    arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
    headings = [latex_text(label) for label in grid.labels]
    headings += [latex_text(column.heading) + arrows[column.up] for column in grid.columns]
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(grid.title)}}}",
        rf"\begin{{tabular}}{{{'l' * len(grid.labels)}{'r' * len(grid.columns)}}}",
        r"\toprule",
        " & ".join(headings) + r" \\",
        r"\midrule",
        *(_latex_row(row, grid) for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"{\footnotesize\raggedright",
        *(latex_text(note) + r"\par" for note in grid.notes),
        *([rf"Command: \texttt{{{latex_text(grid.command)}}}\par"] if grid.command else []),
        "}",
        r"\end{table}",
    ]
    return "\n".join([*lines, ""])


def _latex_row(row: Row, grid: Grid) -> str:
    labels = [r"\quad " * label.startswith("  ") + latex_text(label) for label in row.labels]
    if row.strong:
        labels[0] = rf"\textbf{{{labels[0]}}}"
    cells = [_latex_cell(*pair) for pair in zip(row.cells, grid.columns, strict=True)]
    return " & ".join([*labels, *cells]) + r" \\"


def _latex_cell(cell: Cell, column: Column) -> str:
    if isinstance(cell, str):
        return latex_text(cell)
    if cell is None or cell.missing:
        return ""
    mean, spread = (re.sub(r"-(?=\d)", "$-$", part) for part in parts(cell, column))
    mean = rf"\textbf{{{mean}}}" if cell.best else mean
    return mean + spread.replace("±", r" $\pm$ ")


# --------------------------------------------------------------------------------------------------------------------
# CSV.


def as_csv(grid: Grid) -> str:
    """Plain numbers as the table counts them (its factors, not its rounding), spreads in columns of their own.

    No title and no notes, so that any program reads it.
    """
    spreads = [_spreads(k, grid) for k in range(len(grid.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{c.name}{suffix}" for c, own in zip(grid.columns, spreads, strict=True) for suffix in ("", *own)]
    writer.writerow([*grid.labels, *names])
    for row in grid.rows:
        cells = []
        for cell, column, own in zip(row.cells, grid.columns, spreads, strict=True):
            cells += _csv_cells(cell, column, own)
        writer.writerow([*(label.strip() for label in row.labels), *cells])
    return out.getvalue()


def _spreads(k: int, grid: Grid) -> tuple[str, ...]:
    values = [cell for row in grid.rows if isinstance(cell := row.cells[k], Value)]
    with_sd: tuple[str, ...] = ("_sd",) if any(v.sd == v.sd for v in values) else ()
    with_sd += ("_sd_within",) if any(v.within == v.within for v in values) else ()
    return with_sd + (("_low", "_high") if any(v.low == v.low for v in values) else ())


def _csv_cells(cell: Cell, column: Column, suffixes: tuple[str, ...]) -> list[str]:
    if not isinstance(cell, Value):
        return [cell or "", *("" for _ in suffixes)]
    shown = {"_sd": cell.sd, "_sd_within": cell.within, "_low": cell.low, "_high": cell.high}
    values = [cell.mean, *(shown[suffix] for suffix in suffixes)]
    return ["" if v != v else f"{column.factor * v:.10g}" for v in values]

"""Formats: the same numbers in each, and words that cannot break out of their cell."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.tables.definitions import definitions, table
from semfacediff.tables.formats import as_csv, as_latex, as_markdown, latex_text, markdown_code, markdown_text, number
from semfacediff.tables.grid import Column, Grid, Row, Value

REPOSITORY = Path(__file__).resolve().parents[2]

NASTY = r"""$5 & 10 % of #1_a {b} ~^\ <b>"x"</b> | `c` *d* [e] --f 'g'"""


def grid(label="hair", cells=None):
    columns = (Column("ssim", "SSIM", True, 4), Column("clip", "CLIP", True, 2, 100), Column("d", "seam %", False, 1))
    cells = cells or (Value(0.95, sd=0.01), Value(0.25, low=0.24, high=0.26, best=True), Value(float("nan")))
    return Grid(("attribute",), columns, [Row((label,), cells)], "a title", ["a note"], "make it")


def test_markdown():
    assert as_markdown(grid()) == (
        "# a title\n\n"
        "| attribute |       SSIM (up) |                CLIP (up) | seam % (down) |\n"
        "| :-------- | --------------: | -----------------------: | ------------: |\n"
        "| hair      | 0.9500 ± 0.0100 | **25.00** [24.00, 26.00] |               |\n\n"
        "- a note\n- Command: `make it`\n"
    )


def test_latex():
    text = as_latex(grid())
    assert r"attribute & SSIM $\uparrow$ & CLIP $\uparrow$ & seam \% $\downarrow$ \\" in text
    assert r"hair & 0.9500 $\pm$ 0.0100 & \textbf{25.00} [24.00, 26.00] &  \\" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert r"Command: \texttt{make it}\par" in text


def test_csv_holds_plain_numbers():
    rows = list(csv.reader(io.StringIO(as_csv(grid()))))
    assert rows == [
        ["attribute", "ssim", "ssim_sd", "clip", "clip_low", "clip_high", "d"],
        ["hair", "0.95", "0.01", "25", "24", "26", ""],
    ]


@pytest.mark.parametrize(
    ("value", "said"), [(-0.00001, "0.0000"), (-0.5, "-0.5000"), (0.0, "0.0000"), (1.25, "1.2500")]
)
def test_what_rounds_to_zero_has_no_sign(value, said):
    assert number(value, Column("x", "x", None, 4)) == said


def test_a_negative_number_has_a_minus_in_latex():
    text = as_latex(grid(cells=(Value(-0.5, low=-0.75, high=0.25), None, "words & more")))
    assert r"$-$0.5000 [$-$0.7500, 0.2500]" in text
    assert r"words \& more" in text


def test_latex_escapes_every_character_it_would_obey():
    said = latex_text(NASTY)
    assert said == (
        r"\$5 \& 10 \% of \#1\_a \{b\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}b\textgreater{}"
        r"\textquotedbl{}x\textquotedbl{}\textless{}/b\textgreater{} \textbar{} \textasciigrave{}c\textasciigrave{} "
        r"{*}d{*} {[}e{]} -{}-f \textquotesingle{}g\textquotesingle{}"
    )


_WORDS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotedbl": '"',
    "textasciigrave": "`",
    "textquotesingle": "'",
}


def printed(latex):
    """What LaTeX would print; fails at anything that is not one of the escapes."""
    token = re.compile(r"\\(text[a-z]+)\{\}|\\([$%&#_{}])|\{([\[\]*])\}|([-,])\{\}|([^\\{}$%&#_~^<>|\"`'\[\]*])")
    out, at = "", 0
    while at < len(latex):
        m = token.match(latex, at)
        assert m, f"unescaped at {latex[at:]!r}"
        out += _WORDS[m[1]] if m[1] else m[2] or m[3] or m[4] or m[5]
        at = m.end()
    return out


@given(st.text(st.sampled_from(NASTY + "ab, \n"), max_size=40))
def test_latex_prints_what_was_said(words):
    assert printed(latex_text(words)) == " ".join(words.split())


def test_latex_names_characters_that_it_does_not_have():
    assert latex_text("très 🦊 e\u0301 \x1b κ") == "très {[}U+1F98A{]} é {[}U+001B{]} {[}U+03BA{]}"


def test_every_table_compiles(tmp_path):
    """With pdfLaTeX: those of the repository's records, and words that are anyone's in every place there is."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (texlive-latex-base, texlive-latex-recommended)")
    everything = NASTY + ",, -- \\input{x} %s κ🦊é\x1b" + "".join(map(chr, range(0x20, 0x250)))
    nasty = replace(grid(label=everything), labels=(NASTY,), title=NASTY, notes=[everything], command=everything)
    rows = [Row((start + "x",), nasty.rows[0].cells) for start in "*[-&%"]
    known = definitions(REPOSITORY).values()
    ours = [table(one, REPOSITORY) for one in known if not one.missing(REPOSITORY)]
    body = "\n".join(as_latex(one) for one in (replace(nasty, rows=[*nasty.rows, *rows]), *ours))
    packages = r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}"
    (tmp_path / "all.tex").write_text(rf"{packages}\begin{{document}}{body}\end{{document}}", "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    log = (tmp_path / "all.log").read_text("latin-1")
    assert done.returncode == 0, log[-2000:]
    assert "Missing character" not in log
    assert "Output written on all.pdf" in log
    assert len(ours) > 5


@given(st.text(st.sampled_from(NASTY + "ab \n"), max_size=40))
def test_markdown_cells_stay_in_their_row(words):
    text = markdown_text(words)
    assert "\n" not in text
    assert not re.search(r"(?<!\\)(\\\\)*\|", text), "an unescaped bar would end the cell"
    assert "<" not in text
    assert ">" not in text


def test_markdown_emphasises_nothing_and_leaves_names_alone():
    assert markdown_text("l_eye") == "l_eye"
    assert markdown_text("_x_ *y* `z`") == r"\_x\_ \*y\* \`z\`"
    assert markdown_text("a < b & c") == "a &lt; b &amp; c"


def test_code_with_backticks_is_fenced_by_more():
    assert markdown_code("run $it") == "`run $it`"
    assert markdown_code("a `b` ``c``") == "``` a `b` ``c`` ```"


@pytest.mark.parametrize("form", [as_markdown, as_latex])
def test_labels_and_titles_are_escaped(form):
    text = form(grid(label=NASTY))
    assert "<b>" not in text
    assert len(next(line for line in text.splitlines() if "0.9500" in line).split(" & ")) <= 4

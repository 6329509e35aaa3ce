"""What mkdocs.yml hooks into the build of the site.

Pages link to files elsewhere in the checkout (README.md, tables, source files), which mkdocs does not know. Here these
become part of the site: Markdown and notebooks as pages, anything else as it is.
"""

import posixpath
import re
from pathlib import Path

import griffe
import nbformat
from mkdocs.structure.files import File

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
TARGET = re.compile(r"(?<=\]\()[^)#\s]+")
PAGES = (".md", ".ipynb")


def _file(target: str, page: Path) -> Path | None:
    """The file of the checkout to which a link on ``page`` leads."""
    file = (page.parent / target).resolve()
    return file if file.is_relative_to(ROOT) and file.is_file() else None


def _uri(file: Path) -> str:
    """Where mkdocs finds a file: below docs/, or as if it lay there."""
    uri = file.relative_to(DOCS if file.is_relative_to(DOCS) else ROOT)
    if uri.name == "README.md":  # to mkdocs that is the index of its folder
        uri = uri.with_name("overview.md")
    return (uri.with_suffix(".md") if uri.suffix in PAGES else uri).as_posix()


def _notebook(file: Path) -> str:
    """A notebook with its outputs as Markdown."""
    parts = []
    for cell in nbformat.read(file, as_version=4).cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                source = f"data:image/png;base64,{data['image/png'].strip()}"
                parts.append(f'<img alt="Output of the cell above" src="{source}">')
            elif "text/html" in data:
                parts.append(data["text/html"])
            else:
                parts.append(f"```text\n{data['text/plain'].rstrip()}\n```")
    return "\n\n".join(parts)


def on_files(files, config):
    """Add what pages link to outside docs/, and what the added pages link to."""
    waiting = list(DOCS.glob("*.md"))
    while waiting:
        page = waiting.pop()
        text = page.read_text("utf-8") if page.suffix == ".md" else _notebook(page)
        for file in filter(None, (_file(target, page) for target in TARGET.findall(text))):
            if files.get_file_from_path(_uri(file)) is None:
                files.append(File.generated(config, _uri(file), abs_src_path=str(file)))
                waiting += [file] if file.suffix in PAGES else []
    return files


def on_page_read_source(page, config):
    """A notebook's Markdown; mkdocs reads other pages itself."""
    file = Path(page.file.abs_src_path)
    return _notebook(file) if file.suffix == ".ipynb" else None


def on_page_markdown(markdown, page, config, files):
    """Let links lead to where the files lie on the site; folders have no page and lose theirs."""
    here = Path(page.file.abs_src_path)

    def placed(match: re.Match) -> str:
        file = _file(match[0], here)
        return posixpath.relpath(_uri(file), posixpath.dirname(page.file.src_uri)) if file else match[0]

    return TARGET.sub(placed, markdown)


class Docstrings(griffe.Extension):
    """For mkdocstrings: lazy functions of the package under their public names, cross-references as plain code."""

    def on_package(self, *, pkg, loader, **kwargs):
        """Public names that ``__getattr__`` imports are in ``dir()`` alone."""
        if pkg.path == "semfacediff":
            import semfacediff

            for name in set(dir(semfacediff)) - set(vars(semfacediff)):
                target = getattr(semfacediff, name)
                pkg.set_member(name, griffe.Alias(name, f"{target.__module__}.{name}"))

    def on_object(self, *, obj, loader, **kwargs):
        """Sphinx's roles mean nothing to Markdown."""
        if obj.docstring:
            obj.docstring.value = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", obj.docstring.value)

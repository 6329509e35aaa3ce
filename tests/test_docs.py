"""Links of the documentation lead somewhere, and the index lists every page."""

import re

import pytest


def pages(repository):
    found = [*repository.glob("*.md"), *repository.glob("docs/*.md"), *repository.glob("src/**/MODEL_CARD.md")]
    return [page for page in found if page.name != "CHANGELOG.md"]


def test_links_to_files_resolve(repository):
    broken = []
    for page in pages(repository):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not target.startswith(("http:", "https:")) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(repository)}: {target}")
    assert broken == []


def test_the_index_lists_every_page(repository):
    index = (repository / "docs" / "index.md").read_text("utf-8")
    listed = set(re.findall(r"\]\((\w+\.md)\)", index))
    assert listed == {page.name for page in repository.glob("docs/*.md")} - {"index.md"}


@pytest.mark.parametrize("package", ["data", "parsing", "tasks", "regions", "editing", "synthesis", "metrics"])
def test_the_architecture_names_packages_that_exist(repository, package):
    assert f"| `{package}/` |" in (repository / "docs" / "architecture.md").read_text("utf-8")
    assert (repository / "src" / "semfacediff" / package / "__init__.py").is_file()

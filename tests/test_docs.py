"""Links of the documentation lead somewhere, the index lists every page, and the site is built without a warning."""

import itertools
import os
import re
import subprocess
import sys
import tomllib

import pandas as pd
import pytest


def pages(repository):
    found = [*repository.glob("*.md"), *repository.glob("docs/*.md"), *repository.glob("src/**/MODEL_CARD.md")]
    return [page for page in found if page.name != "CHANGELOG.md"] + [*repository.glob("examples/*.ipynb")]


def test_links_to_files_resolve(repository):
    broken = []
    for page in pages(repository):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not target.startswith(("http:", "https:")) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(repository)}: {target}")
    assert broken == []


def test_the_index_lists_every_page(repository):
    index = (repository / "docs" / "index.md").read_text("utf-8")
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    assert listed == {page.name for page in repository.glob("docs/*.md")} - {"index.md"}


def test_the_readme_is_short_and_its_table_is_that_of_the_record(repository):
    readme = (repository / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 150
    lines = (repository / "results" / "tables" / "controls.md").read_text("utf-8").splitlines()
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    columns = [head.index(f"{name} raw (up)") for name in ("toward prompt", "SSIM", "PSNR outside dB", "mask IoU")]
    whole = {row[0]: [row[column] for column in columns] for row in rows}
    shown = re.findall(r"^\| .*\(`(\w+)`\) \|(.*)\|$", readme, re.MULTILINE)
    assert len(shown) == 7
    assert [[cell.strip() for cell in cells.split("|")] for _, cells in shown] == [whole[name] for name, _ in shown]


def test_every_dependency_and_extra_is_explained(repository):
    """In ``docs/dependencies.md``; nothing is explained that the project no longer needs."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {re.match(r"[\w-]+", r)[0] for r in itertools.chain(project["dependencies"], *extras.values())}
    page = (repository / "docs" / "dependencies.md").read_text("utf-8")
    cells = [row.split("|") for row in page.splitlines() if row.startswith("| `")]
    listed = {name for row in cells for cell in row[1:3] for name in re.findall(r"`([\w-]+)`", cell)}
    assert listed == (wanted - {"semfacediff"}) | set(extras)


@pytest.mark.parametrize("package", ["data", "faces", "parsing", "tasks", "regions", "editing", "synthesis", "metrics"])
def test_the_architecture_names_packages_that_exist(repository, package):
    assert f"| `{package}/` |" in (repository / "docs" / "architecture.md").read_text("utf-8")
    assert (repository / "src" / "semfacediff" / package / "__init__.py").is_file()


@pytest.mark.more
def test_the_site_is_built_without_a_warning(repository, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"PYTHONPATH": str(repository / "src"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    site = tmp_path / "site"
    for page in repository.glob("docs/*.md"):
        text = (site / page.with_suffix(".html").name).read_text("utf-8")
        broken = [t for t in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text) if not (site / t).exists()]
        assert broken == [], page.name
    reference = (site / "api.html").read_text("utf-8")
    for name in ("parse", "region_mask", "edit", "score", "score_sets", "editing.base.Editor"):
        assert f'id="semfacediff.{name}"' in reference
    assert "data:image/png;base64," in (site / "examples" / "first_steps.html").read_text("utf-8")


def test_the_thesis_lpips_by_area_is_that_of_the_record(repository):
    """The table of docs/what-each-metric-sees.md, recomputed from the record and the published scores."""
    samples = pd.read_parquet(repository / "results/runs/recolor_thesis/samples.parquet")
    published = pd.read_csv(repository / "results/published/semfacediff_table_6_1.csv").set_index("attribute")
    page = (repository / "docs/what-each-metric-sees.md").read_text("utf-8")
    for attribute, of_region in samples.groupby("attribute"):
        outside, scores = 1 - of_region["coverage"].mean(), published.loc[attribute]
        lpips, damage = scores["lpips_mean"], 1 - scores["ssim_mean"]
        values = (outside, lpips, lpips / outside, damage, damage / outside)
        assert f"| {attribute} | " + " | ".join(f"{value:.4f}" for value in values) + " |" in page

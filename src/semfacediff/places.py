"""Where files lie that are no code: configuration, presets and published rows; records and tables."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CARRIED = _PACKAGE / "carried"
"""In a wheel only: ``conf/``, ``experiments/`` and ``results/published`` of the checkout (see ``pyproject.toml``)."""


def repository() -> Path:
    """Folder of ``conf/``, ``experiments/`` and ``results/published``: the checkout, or what a wheel carries."""
    return _CARRIED if _CARRIED.is_dir() else _PACKAGE.parents[1]


def results(root: Path) -> Path:
    """Folder that holds records (``runs/``) and tables (``tables/``): of the checkout ``root``, else of this folder.

    Nothing is written beside an installed package: its records and tables lie in ``results/`` of the current folder.
    """
    return (Path.cwd() if root == _CARRIED else root) / "results"

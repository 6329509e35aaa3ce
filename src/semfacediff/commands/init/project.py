"""A user's own project: a folder with ``conf/`` and ``experiments/`` that the commands read when they start there."""

import shutil
from pathlib import Path

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.records.writing import write_errors, write_text

_PRESET = """\
# @package _global_
# semfacediff evaluate experiment=first
# A preset selects choices and overrides keys; semfacediff evaluate --cfg job lists all keys
defaults:
  - override /data: toy            # data=folder data.root=DIR: your photos and label maps
  - override /parser: ground_truth # parser=face_lite: the one that ships with the package
  - override /metrics: no_weights  # metrics=full: also LPIPS, CLIP, FID and KID, which need public weights
  - override /prompts: mine

name: first
attributes: [hair, lips]
data: {count: 4, size: 128}
"""
_README = """\
# My face editing project

    semfacediff doctor                              what is available, and what each command needs
    semfacediff evaluate experiment=first           one run; its record is in outputs/editing/
    semfacediff evaluate -m experiment=first composite=off,exact,blend      a sweep
    semfacediff report outputs/editing/first-* --out report

`experiments/experiment/first.yaml` is a preset, `conf/prompts/mine.yaml` holds its prompts. Files beside them are found
by their names: `experiment=NAME`, `prompts=NAME`. `conf/local/default.yaml` (optional) holds settings of this
machine for every run. The commands find both folders when started here; elsewhere use `--config-dir DIR`.
"""


def start_project(folder: Path) -> int:
    """Write a starter project; returns the exit code.

    Raises:
        UserError: ``folder`` is not empty or cannot be written.
    """
    with write_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not empty; name a new folder")
        for name in ("conf/prompts", "experiments/experiment"):
            (folder / name).mkdir(parents=True)
        shutil.copyfile(config.repository() / "conf/prompts/demo.yaml", folder / "conf/prompts/mine.yaml")
    for name, text in {
        "experiments/experiment/first.yaml": _PRESET,
        "README.md": _README,
        ".gitignore": "outputs/\nconf/local/\n",
    }.items():
        write_text(folder / name, text)
    print(f"{folder}: project created; next: cd {folder} && semfacediff evaluate experiment=first")
    return 0

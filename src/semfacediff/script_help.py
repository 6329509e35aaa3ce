"""``--help`` of the three Hydra runs: the usual keys, presets, and the choices of each group. Nothing is composed."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import yaml

from semfacediff import plugins

_USUAL = {
    "evaluate": {
        "experiment=demo/editing": "a preset (listed below)",
        "data=folder data.root=DIR": "your photos and label maps; data.n=20 takes the first 20 of the split",
        "editor=recolor": "what edits the photos",
        "attributes=[hair,lips]": "the regions to edit; prompts.hair='copper red hair' says how",
        "parser=face_lite": "what finds the regions; parser.checkpoint=RUN is one you trained",
    },
    "train_parser": {
        "experiment=demo/parser": "a preset (listed below)",
        "data=folder data.root=DIR": "your photos and label maps",
        "parser=fpn_resnet18": "the architecture; parser.pretrained=imagenet starts from ImageNet weights",
        "train.epochs=12 train.size=256": "how long, and at how many px",
        "optim.decoder_lr=1e-3": "the learning rate",
    },
    "train_synthesis": {
        "experiment=sca_dm/tiny": "a preset (listed below)",
        "data=folder data.root=DIR": "your photos and label maps",
        "synthesis=small": "the size of the network",
        "stage=first": "the stage to train: first, then stage=diffusion first_stage.checkpoint=RUN",
        "diffusion.steps=20000": "how long",
    },
}
"""Script -> the most used keys with an example each."""
_EVERYWHERE = {
    "-m": "a sweep: one run for each of several values, e.g. seed=1,2,3",
    "--dry-run": "print what would run: configuration, counts, what is missing, time and disk",
    "--cfg job": "print every key and its value, and leave",
    "hydra.run.dir=DIR": "the folder of the run",
    "--config-dir DIR": "a folder with groups of your own; conf/ and experiments/ of this folder are found anyway",
    "--hydra-help": "what else Hydra takes",
}


def text(script: str, program: str, root: Path) -> str:
    """The help page of a script.

    Args:
        script: ``evaluate``, ``train_parser`` or ``train_synthesis``. program: how it was called.
        root: folder of ``conf/`` and ``experiments/``; those of the current folder are listed too.
    """
    width = max(map(len, [*_USUAL[script], *_EVERYWHERE])) + 4

    def rows(found: Mapping[str, str]) -> list[str]:
        return [_row(f"  {name}".ljust(width), said) for name, said in found.items()]

    return "\n".join(
        [
            f"usage: {program} [KEY=VALUE ...]",
            *("", "Most used:", *rows(_USUAL[script])),
            *("", "Presets (experiment=GROUP/NAME; 'semfacediff list experiments' says what each is):"),
            *rows({group: ", ".join(names) for group, names in _presets(script, root).items()}),
            *("", "Groups (GROUP=CHOICE):"),
            *rows({group: ", ".join(choices) for group, choices in _choices(script, root).items()}),
            *("", "Also:", *rows(_EVERYWHERE)),
        ]
    )


def _row(head: str, said: str) -> str:
    return textwrap.fill(
        said,
        120,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _presets(script: str, root: Path) -> dict[str, list[str]]:
    """Group (empty: none) -> names of the presets whose opening comment calls this script, or none."""
    found: dict[str, list[str]] = {}
    for place in (root / "experiments" / "experiment", Path("experiments") / "experiment"):
        for file in sorted(place.rglob("*.yaml")):
            name = file.relative_to(place).with_suffix("").as_posix()
            called = re.search(rf"(\w+)(?:\.py)? (?:-m )?experiment={re.escape(name)}\b", file.read_text("utf-8"))
            group, _, short = name.rpartition("/")
            names = found.setdefault(group and f"{group}/", [])
            if short not in names and (called is None or called[1] == script):
                names.append(short)
    return {group: found[group] for group in sorted(found) if found[group]}


def _choices(script: str, root: Path) -> dict[str, list[str]]:
    """Group of the script's configuration -> its choices, those of installed packages among them."""
    defaults = yaml.safe_load((root / "conf" / f"{script}.yaml").read_text("utf-8"))["defaults"]
    groups = [key for entry in defaults if isinstance(entry, dict) for key in entry if " " not in key]
    found = {}
    for group in groups:
        names = {file.stem for place in (root / "conf", Path("conf")) for file in (place / group).glob("*.yaml")}
        names |= {entry.name for entry in plugins.installed(group)} if group in plugins.KINDS else set()
        if names:
            found[group] = sorted(names)
    return found

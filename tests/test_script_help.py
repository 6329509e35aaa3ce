"""``--help`` of the three Hydra runs."""

import re

import pytest
import yaml

from semfacediff import __version__, cli, hydra_app, script_help
from semfacediff.places import repository
from semfacediff.scripts import SCRIPTS

ROOT = repository()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_example_of_a_key_composes(script, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_DATA", str(tmp_path))
    for words in script_help._USUAL[script]:
        hydra_app.composed(script, words.split(), ROOT)


def test_every_preset_is_listed_by_one_script():
    files = (ROOT / "experiments" / "experiment").rglob("*.yaml")
    expected = sorted(f.relative_to(ROOT / "experiments" / "experiment").with_suffix("").as_posix() for f in files)
    listed = [
        f"{group}{name}"
        for script in SCRIPTS
        for group, names in script_help._presets(script, ROOT).items()
        for name in names
    ]
    assert sorted(listed) == expected


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_group_and_choice_is_listed(script):
    text = script_help.text(script, "python x.py", ROOT)
    for entry in yaml.safe_load((ROOT / "conf" / f"{script}.yaml").read_text())["defaults"]:
        for group in entry if isinstance(entry, dict) else ():
            for file in (ROOT / "conf" / group).glob("*.yaml") if " " not in group else ():
                assert re.search(rf"^  {group} .*?\b{file.stem}\b", text, re.MULTILINE | re.DOTALL), (group, file.stem)
    assert max(map(len, text.splitlines())) <= 120


def test_choices_and_presets_of_the_current_folder_are_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("conf/editor/mine.yaml", "experiments/experiment/own/try.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("name: x\n")
    text = script_help.text("evaluate", "python evaluate.py", ROOT)
    assert re.search(r"^  editor .*\bmine\b", text, re.MULTILINE | re.DOTALL)
    assert re.search(r"^  own/ +try$", text, re.MULTILINE)


@pytest.mark.parametrize("words", [["--version"], ["evaluate", "--version"], ["evaluate", "seed=1", "--help"]])
def test_it_ends_with_0(words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "usage: semfacediff evaluate [KEY=VALUE ...]" if "--help" in words else f"semfacediff {__version__}\n"
    )

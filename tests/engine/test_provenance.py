"""What a record says of its command: repeatable elsewhere, and silent about this machine."""

import sys

import pytest

from semfacediff.engine import provenance


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("data.root=/home/anna/CelebAMask-HQ", "data.root=DIR/CelebAMask-HQ"),
        ("data.root='/home/anna/my faces'", "data.root='DIR/my faces'"),
        ('weights.root="/mnt/weights"', 'weights.root="DIR/weights"'),
        ("data.root=/home/anna=bob/faces", "data.root=DIR/faces"),
        ("+parser.root=~/parses", "+parser.root=DIR/parses"),
        ("x=[/home/anna/a,/home/anna/b]", "x=[DIR/a,DIR/b]"),
        ("/home/anna/faces", "DIR/faces"),
        ("data.root=faces/all", "data.root=faces/all"),
        ("prompts.hair='red and/or blue hair'", "prompts.hair='red and/or blue hair'"),
        ("region.feather_sigma_px=3,7", "region.feather_sigma_px=3,7"),
        ("experiment=celebamask_mini/parsing", "experiment=celebamask_mini/parsing"),
        ("data=toy", "data=toy"),
        ("--multirun", "--multirun"),
    ],
)
def test_places_on_this_machine_are_left_out(word, shown):
    assert provenance._without_machine_path(word) == shown


def test_places_below_the_working_folder_are_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    word = f"parser.checkpoint={tmp_path / 'outputs' / 'parser'}"
    assert provenance._without_machine_path(word) == "parser.checkpoint=outputs/parser"


def test_the_command_can_be_pasted_into_a_shell(monkeypatch):
    monkeypatch.setenv("SEMFACEDIFF_OVERRIDES", "data.root=/home/anna/faces \"prompts.hair='dark red'\"")
    monkeypatch.setattr(sys, "argv", ["/home/anna/semfacediff/evaluate.py", "-m"])
    command = provenance._command()
    assert command == """python evaluate.py data.root=DIR/faces 'prompts.hair='"'"'dark red'"'"''"""

"""Which login counts is what the library itself would find."""

import pytest

from semfacediff.records import wandb_login
from semfacediff.records.wandb_login import mode

KEY = "machine {host}\n  login user\n  password secret\n"


@pytest.fixture
def home(tmp_path, monkeypatch, stub):
    """An empty home and working folder, without any variable of W&B."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC")
    monkeypatch.delenv("WANDB_CONFIG_DIR")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(folder, **values):
    folder.mkdir(parents=True)
    (folder / "settings").write_text("[default]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()))


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": "k"}, "online"),
        ("auto", {"WANDB_IDENTITY_TOKEN_FILE": "token"}, "online"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_API_KEY": "k", "WANDB_MODE": "dryrun"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("online", {"WANDB_MODE": "offline"}, "online"),
        ("offline", {"WANDB_API_KEY": "k"}, "offline"),
    ],
)
def test_offline_unless_a_login_or_the_user_says_otherwise(asked, environment, expected, home, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert mode(asked) == expected


@pytest.mark.parametrize("name", [".netrc", "_netrc"])
def test_wandb_login_writes_a_netrc_file(name, home):
    (home / name).write_text(KEY.format(host="api.wandb.ai"))
    assert mode("auto") == "online"


def test_a_netrc_file_elsewhere(home, monkeypatch):
    (home / "keys").write_text(KEY.format(host="api.wandb.ai"))
    (home / ".netrc").write_text(KEY.format(host="github.com"))
    assert mode("auto") == "offline"
    monkeypatch.setenv("NETRC", "~/keys")
    assert mode("auto") == "online"


def test_a_login_is_for_one_server(home, monkeypatch):
    (home / ".netrc").write_text(KEY.format(host="wandb.lab.org:8080"))
    assert mode("auto") == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.lab.org:8080")
    assert mode("auto") == "online"
    monkeypatch.delenv("WANDB_BASE_URL")
    settings(home / ".config" / "wandb", base_url="https://wandb.lab.org:8080")
    assert (mode("auto"), wandb_login.server()) == ("online", "https://wandb.lab.org:8080")


def test_settings_of_the_folder_come_before_those_of_the_user(home):
    (home / ".netrc").write_text(KEY.format(host="api.wandb.ai"))
    settings(home / ".config" / "wandb", mode="disabled")
    assert mode("auto") == "disabled"
    settings(home / "wandb", mode="offline")
    assert mode("auto") == "offline"
    (home / "wandb" / "settings").write_text("[default]\nmode = online\n")
    assert mode("auto") == "online"
    (home / ".netrc").unlink()
    assert mode("auto") == "offline"


@pytest.mark.parametrize("content", [b"machine\n", b"\xff\xfe"])
def test_damaged_files_are_no_login(content, home):
    (home / ".netrc").write_bytes(content)
    settings(home / "wandb")
    (home / "wandb" / "settings").write_bytes(content)
    assert mode("auto") == "offline"


def test_the_library_finds_the_same(home):
    from wandb.sdk.lib.wbauth import wbnetrc
    from wandb.sdk.wandb_settings import Settings

    assert wbnetrc.read_netrc_auth(host="https://api.wandb.ai") is None
    wbnetrc.write_netrc_auth(host="https://wandb.lab.org", api_key="k" * 40)
    settings(home / ".config" / "wandb", base_url="https://wandb.lab.org")
    theirs = Settings(settings_system=str(home / ".config/wandb/settings"))
    theirs.update_from_system_settings()
    assert theirs.base_url == wandb_login.server()
    assert wbnetrc.read_netrc_auth(host=theirs.base_url) == "k" * 40
    assert wandb_login.logged_in()


def test_the_project_is_the_sweeps_for_an_agent(home, monkeypatch):
    assert wandb_login.destination(None, "faces") == "faces"
    assert wandb_login.destination("lab", "faces") == "lab/faces"
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    assert wandb_login.agent_run() is None, "a user's own variable"
    for name, value in {"SWEEP_ID": "s1", "ENTITY": "team", "PROJECT": "rates"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert (wandb_login.agent_run(), wandb_login.destination(None, "faces")) == ("r1", "team/rates")

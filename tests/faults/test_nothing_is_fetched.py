"""Nothing is fetched unasked: every command on a machine without a single weight, and with a network."""

import os
import re
import socket
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from semfacediff import cli

LOOPBACK = ("127.0.0.1", "::1", "localhost", None)
TOY = ["data=toy", "data.count=4", "data.size=64", "data.split=all", "runtime.device=cpu", "runtime.workers=0"]
EVALUATE = ["evaluate", *TOY, "attributes=[skin]", "strips=0", "name=x"]
SCORED = [*EVALUATE, "parser=fastscnn_lite", "parser.checkpoint=TINY", "editor=recolor", "metrics=no_weights"]
SKIN = ["skin", "pale skin", "--face", "all", "--parser", "TINY"]
ASKED = ["--attribute", "skin", "--prompt", "pale skin"]
FAST = [
    ["init", "project"],
    ["doctor"],
    ["thesis"],
    ["prepare", "TREE", "--out", "prepared", "--workers", "1"],
    ["parse", "PHOTO", "--checkpoint", "TINY", "--out", "labels"],
    [*SCORED, "hydra.run.dir=one"],
    [*SCORED, "hydra.run.dir=two", "seed=3"],
    ["edit", "PHOTO", *SKIN, "--editor", "recolor"],
    ["compare", "one", "two"],
    ["strata", "one", "--by", "region_size"],
    ["leakage", "one"],
    ["figures", "one"],
    ["report", "one"],
    ["tables", "--check", "ce7454_table_1"],
    ["list", "editors"],
    ["check-data", *TOY[:3]],
    ["export", "one", "--to", "zip", "--out", "one.zip"],
    ["import", "one.zip", "--into", "filed"],
    ["rescore", "one", "--add", "psnr", "--parser", "TINY", "--device", "cpu"],
    ["score", "--photos", "IMAGES", "--edits", "one/edits/skin", *ASKED, "--parser", "TINY", "--out", "scores"],
]
"""Commands that end with 0, each with what those before it made."""
EXPORT = ["export", "TINY", "--to", "half", "--out", "half"]
TRAINING = "train.size=64 train.epochs=1 train.batch_size=2 optim.warmup_steps=0 parser=fastscnn_lite".split()
SYNTHESIS = (
    "stage=first synthesis=tiny synthesis.image_size=32 synthesis.vq_codes=16 synthesis.style_features=1 "
    "synthesis.style_down=3 synthesis.token_width=4 synthesis.unet_multipliers=[1] synthesis.attention_factors=[1] "
    "data.split_rule.modulo=2 vq.steps=1 vq.batch_size=2 vq.unquantised_steps=1 vq.validate_every_steps=1 "
    "vq.checkpoint_every_steps=1 vq.sample_every_steps=1"
).split()
SLOW = [
    ["train-parser", *TOY[:3], *TOY[4:], *TRAINING, "hydra.run.dir=parser"],
    ["train-synthesis", *TOY[:3], *TOY[4:], *SYNTHESIS, "hydra.run.dir=synthesis"],
    *[[*SCORED, f"shard={{index: {i}, count: 2}}", f"hydra.run.dir=part_{i}"] for i in range(2)],
    ["merge", "part_0", "part_1", "--out", "whole"],
    ["gpu-check", "--toy", "--only", "parser", "metrics", "--out", "check"],
    ["track", "sync", "whole", "--mode", "offline"],
]
TRAINED = "jonathandinu/face-parsing"
FETCH = "semfacediff fetch"
PRETRAINED = ["train-parser", *TOY, "parser.pretrained=imagenet"]
DENOISER = ["train-synthesis", *TOY, "synthesis=tiny"]
SLOWLY = pytest.mark.slow
MISSING = [
    ([*EVALUATE, "editor=recolor", "parser=ground_truth", "metrics=full"], f"{FETCH} lpips_alexnet"),
    ([*EVALUATE, "editor=sdxl_inpaint", "parser=ground_truth", "metrics=no_weights"], f"{FETCH} sdxl_inpaint"),
    ([*EVALUATE, "editor=recolor", f"parser.checkpoint={TRAINED}", "metrics=no_weights"], f"{FETCH} {TRAINED}"),
    (["train-parser", *TOY, f"parser.checkpoint={TRAINED}"], f"{FETCH} {TRAINED}"),
    pytest.param([*PRETRAINED, "parser=segface_swin_base"], f"{FETCH} imagenet_swin_base", marks=SLOWLY),
    pytest.param([*DENOISER, "first_stage.checkpoint=CompVis/vq-f4"], "CompVis/vq-f4", marks=SLOWLY),
    (["parse", "PHOTO", "--checkpoint", TRAINED, "--out", "out"], f"{FETCH} {TRAINED}"),
    (["export", TRAINED, "--to", "half", "--out", "out"], f"{FETCH} {TRAINED}"),
    (["edit", "PHOTO", *SKIN], f"{FETCH} sdxl_inpaint"),
    (["report", "--tokens", "kartiknarayan/SegFace/swinb_lapa_224", "PHOTO"], f"{FETCH} kartiknarayan/SegFace"),
]
"""Commands that need what is not there, and what their sentence names."""


@pytest.fixture
def asked(monkeypatch):
    """Hosts that are looked up or connected to, other than this computer; each attempt fails."""
    hosts = []

    def guarded(name):
        original = getattr(socket.socket, name)

        def call(self, *arguments):
            address = arguments[-1]
            if isinstance(address, tuple) and address[0] not in LOOPBACK:
                hosts.append(address[0])
                raise OSError(f"went to {address}")
            return original(self, *arguments)

        monkeypatch.setattr(socket.socket, name, call)

    for name in ("connect", "connect_ex", "sendto"):
        guarded(name)
    look_up = socket.getaddrinfo

    def looked_up(host, *arguments, **options):
        if host not in LOOPBACK:
            hosts.append(host)
            raise socket.gaierror(f"asked for {host}")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    return hosts


@pytest.fixture
def bare(monkeypatch, tmp_path, nothing_ships):
    """No weights anywhere, in an empty folder, and nothing that keeps libraries from the network."""
    online = {name: "0" for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")}
    with mock.patch.dict(os.environ, online):
        os.environ.pop("WANDB_MODE", None)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        yield tmp_path


@pytest.fixture
def command(bare, official_tree, tiny_checkpoint, toy_folder, monkeypatch):
    """``command(word, ...)``: the exit code of a command in this process, Hydra's among them.

    Figures are laid out and not drawn, which takes seconds and fetches nothing.
    """
    photo = toy_folder(1) / "images" / "00000.png"
    there = {"TREE": official_tree, "PHOTO": photo, "IMAGES": photo.parent, "TINY": tiny_checkpoint}
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: Path(file).touch())

    def run(words) -> int:
        GlobalHydra.instance().clear()
        try:
            return cli.main([re.sub("|".join(there), lambda name: str(there[name[0]]), word) for word in words])
        except SystemExit as e:
            return e.code

    return run


def test_every_command(asked, command, capsys, skin):
    for words in FAST:
        assert command(words) == 0, (words, capsys.readouterr().err)
        assert asked == [], words


def test_export(asked, command):
    assert command(EXPORT) == 0
    assert asked == []


@pytest.mark.slow
def test_trainings_and_parts(asked, command, capsys):
    for words in SLOW:
        assert command(words) == 0, (words, capsys.readouterr().err)
        assert asked == [], words


@pytest.mark.parametrize(("words", "named"), MISSING, ids=lambda x: x[0] if isinstance(x, list) else "")
def test_what_is_missing_is_named(asked, command, capsys, words, named):
    assert command(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ")
    assert named in said
    assert asked == []


@pytest.mark.slow
def test_the_page(asked, command, capsys, monkeypatch):
    """Built without the guard of its own; what it answers is in ``test_page_requests.py``."""
    server = pytest.importorskip("semfacediff.web.server")
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'semfacediff[web]'")

    @contextmanager
    def interrupted(made, listening):
        assert made.config.app
        raise KeyboardInterrupt
        yield

    ended = []
    monkeypatch.setattr(server, "running", interrupted)
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)
    monkeypatch.setattr(os, "_exit", ended.append)
    assert command(["web", "--parser", "TINY", "--editor", "sdxl_inpaint", "--port", "54321"]) is None
    assert ended == [0]
    assert asked == []


class TestTheGuard:
    """Else the tests above could not fail."""

    @pytest.fixture(autouse=True)
    def _retries_at_once(self, monkeypatch):
        monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def test_it_sees_every_way_out(self, asked, bare):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            for attempt in (
                lambda: stream.connect(("192.0.2.1", 80)),
                lambda: stream.connect_ex(("192.0.2.2", 80)),
                lambda: datagram.sendto(b"x", ("192.0.2.3", 53)),
                lambda: urllib.request.urlopen("http://library.example/"),
                lambda: torch.hub.load_state_dict_from_url("http://weights.example/x.pth"),
            ):
                with pytest.raises(OSError, match=r"went to|asked for"):
                    attempt()
        with pytest.raises(OSError, match="Please check your connection"):
            hf_hub_download("x/y", "z")
        assert asked[:5] == [*(f"192.0.2.{i}" for i in (1, 2, 3)), "library.example", "weights.example"]
        assert "huggingface.co" in asked[5:]

    def test_a_fetch_that_is_asked_for_is_seen(self, asked, command, capsys):
        assert command(["fetch", "lpips_alexnet"]) != 0
        assert asked

    def test_every_command_is_tried(self, command, capsys):
        assert command(["--help"]) == 0
        known = set(re.findall(r"^ {4}([a-z][a-z-]*)", capsys.readouterr().out, re.M))
        assert {"evaluate", "web"} < known
        assert known == {words[0] for words in (*FAST, EXPORT, *SLOW)} | {"fetch", "web"}

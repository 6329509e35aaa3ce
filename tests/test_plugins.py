"""An editor, a metric and a parser of one's own: one source file and one in ``conf/`` each, found by their names."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter

import semfacediff.editing
import semfacediff.metrics
import semfacediff.parsing
from semfacediff import cli, config, plugins, tasks
from semfacediff.data.opening import open_data
from semfacediff.errors import UserError
from semfacediff.hydra_app import composed
from semfacediff.parsing import registry

REPOSITORY = Path(__file__).resolve().parents[1]
EDITOR = """
import cv2
import torch
from semfacediff.editing.base import Editor

class Blur(Editor):
    name, native_size, batchable = "blur", None, True

    def __init__(self, sigma_px: float):
        self.sigma_px = sigma_px

    def edit(self, requests):
        planes = [r.photo.permute(1, 2, 0).numpy() for r in requests]
        blurred = [cv2.GaussianBlur(p, (0, 0), self.sigma_px) for p in planes]
        return [torch.from_numpy(b).permute(2, 0, 1).clamp(0, 1) for b in blurred]

EDITOR = Blur
"""
METRIC = """
from semfacediff.metrics.base import NO_RESIZE, Metric, declared

class MeanChange(Metric):
    columns, higher_is_better = ("mean_change",), {"mean_change": None}

    def score(self, pair):
        return {"mean_change": float(abs(pair.edit.astype(float) - pair.photo).mean())}

    def identity(self):
        return declared("mean_change", implementation="test", version="1", bounds=[0, 255], unit="8-bit levels",
                        higher_is_better=None, resize=NO_RESIZE)

METRIC = MeanChange
"""
PARSER = """
from torch import nn
from semfacediff.parsing.registry import Kind

class OneLayer(nn.Module):
    encoder = ("stem",)

    def __init__(self, classes=19, width=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, photos):
        return self.head(self.stem(photos))

PARSER = Kind(__name__, "OneLayer", head="head.bias")
"""
PLACE = "runtime.device=cpu runtime.workers=0 tracking=none".split()


@pytest.fixture
def add(monkeypatch, tmp_path):
    """``add(kind, name, source, conf)``: a module in the package and a file in ``conf/``; returns the checkout."""
    packages = {"editor": semfacediff.editing, "metric": semfacediff.metrics, "parser": semfacediff.parsing}
    checkout = tmp_path / "checkout"
    for name in ("conf", "experiments"):
        shutil.copytree(REPOSITORY / name, checkout / name)

    def added(kind: str, name: str, source: str, conf: str) -> Path:
        folder = tmp_path / f"{kind}s"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(source)
        monkeypatch.setattr(packages[kind], "__path__", [*packages[kind].__path__, str(folder)])
        group = "metrics" if kind == "metric" else kind
        (checkout / "conf" / group / f"{name}.yaml").write_text(conf)
        plugins.find.cache_clear()
        return checkout

    yield added
    plugins.find.cache_clear()


def edited(checkout: Path, folder: Path, *words: str) -> Path:
    plain = "data.count=2 data.size=64 parser=ground_truth metrics=no_weights attributes=[hair] strips=0".split()
    cfg = composed("evaluate", [*plain, *PLACE, *words], checkout)
    assert tasks.start(config.typed(cfg, config.EditingEvaluation), folder) == 0
    return folder


def test_an_editor(add, tmp_path):
    checkout = add("editor", "blur", EDITOR, "name: blur\nsigma_px: 3.0\n")
    folder = edited(checkout, tmp_path / "run", "editor=blur", "composite=off", "metrics.columns=[psnr]")
    run = json.loads((folder / "run.json").read_text())
    assert run["identity"]["config"]["editor"] == {"name": "blur", "sigma_px": 3.0}
    assert len(run["editor"]["digest"]) == 64
    from semfacediff.data.toy import ToyFaces

    photo = ToyFaces(2, 64)[0].photo
    expected = gaussian_filter(photo.astype(float), (3, 3, 0), mode="mirror", truncate=4)
    from semfacediff.data.reading import decode_photo

    made = decode_photo((folder / "edits/hair/00000.png").read_bytes(), "edit")
    assert np.abs(made - expected).max() < 2


def test_an_option_that_it_does_not_take(add, tmp_path):
    checkout = add("editor", "blur", EDITOR, "name: blur\nsigma_px: 3.0\nstrong: true\n")
    with pytest.raises(UserError, match=r"editor 'blur': .*unexpected keyword argument 'strong'"):
        edited(checkout, tmp_path / "run", "editor=blur")


def test_a_metric(add, tmp_path, capsys):
    checkout = add("metric", "mean_change", METRIC, "defaults: [no_weights]\ncolumns: [ssim, mean_change]\n")
    folder = edited(checkout, tmp_path / "run", "metrics=mean_change", "prompts.hair=green hair")
    samples = pd.read_parquet(folder / "samples.parquet")
    assert (samples["mean_change"] > 0.5).all()
    summary = pd.read_csv(folder / "summary.csv")
    assert summary["mean_change_mean"][0] == pytest.approx(samples["mean_change"].mean())
    assert "mean change" in capsys.readouterr().out
    run = json.loads((folder / "run.json").read_text())
    assert [m["metric"] for m in run["metrics"]] == ["ssim", "mean_change"]


def test_a_parser(add, tmp_path):
    plain = (REPOSITORY / "conf/parser/fastscnn_lite.yaml").read_text()
    checkout = add("parser", "one_layer", PARSER, plain.replace("fastscnn_lite", "one_layer"))
    small = "data.count=8 data.size=32 train.size=32 train.epochs=1 train.batch_size=2 optim.warmup_steps=1".split()
    cfg = composed("train_parser", ["parser=one_layer", "data=toy", *small, *PLACE], checkout)
    assert tasks.start(config.typed(cfg, config.ParserTraining), tmp_path / "run") == 0
    model, card = semfacediff.parsing.load_parser(tmp_path / "run/checkpoints/best")
    assert card.name == "one_layer"
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 19, 32, 32)


def test_what_is_not_there_or_broken(add):
    with pytest.raises(
        UserError, match=r"metric 'glow': expected METRIC in semfacediff/metrics/glow.py or an entry po"
    ):
        plugins.made("metric", "glow", {})
    add("editor", "broken", "import nothing_of_that_name", "name: broken\n")
    with pytest.raises(UserError, match=r"editor 'broken' cannot be imported .ModuleNotFoundError"):
        plugins.find("editor", "broken")


def test_entry_points(monkeypatch):
    one = EntryPoint("psnr2", "semfacediff.metrics.fidelity:PSNR", "semfacediff.metrics")
    monkeypatch.setattr(plugins, "entry_points", lambda group, name: [one] if name == "psnr2" else [one, one])
    plugins.find.cache_clear()
    assert plugins.find("metric", "psnr2").__name__ == "PSNR"
    with pytest.raises(UserError, match=r"metric 'twice' is registered by .*; uninstall one"):
        plugins.find("metric", "twice")
    plugins.find.cache_clear()


OWN = """
import sys
from dataclasses import dataclass
import torch
from pydantic import BaseModel
from semfacediff.editing.base import Editor
from semfacediff.labels import CELEBAMASK
from semfacediff.metrics.base import NO_RESIZE, Metric, declared
from semfacediff.parsing import Parser
from semfacediff.types import FaceSample

class Odd(Editor):
    batchable = True

    class Options(BaseModel):
        way: str = "well"
        times: tuple[int, ...] = (1, 2)
        factor: float = 1

    def __init__(self, way, times, factor):
        if way == "build":
            raise RuntimeError("no licence")
        assert times[0] == 1 and isinstance(times, tuple)
        self.way = way

    def edit(self, requests):
        return [self.one(r) for r in requests]

    def one(self, r):
        if self.way == "sometimes" and r.attribute == "lips":
            raise RuntimeError("no such thing")
        if self.way == "missing" and r.attribute == "lips":
            return r.photo * float("nan")
        if self.way == "size" and r.attribute == "lips":
            return r.photo[:, 1:]
        if self.way == "writes":
            r.masks.blend.zero_(), r.labels.zero_(), r.photo.mul_(0.5)
            return r.photo
        if self.way == "half":
            return r.photo * 0.5
        return r.photo

class Plain:
    pass

class Halves(Parser):
    label_space = CELEBAMASK

    class Options(BaseModel):
        way: str = "well"

    def __init__(self, way):
        self.way = way

    def before(self, sample, photo):
        labels = torch.zeros(photo.shape[1:], dtype=torch.int64)
        labels[: len(labels) // 2] = 13
        return labels[1:] if self.way == "size" else labels

    def after(self, sample, attribute, photo):
        if self.way == "sometimes" and sample.id == "00001":
            raise RuntimeError("no face")
        return self.before(sample, photo)

class Faces:
    label_space = CELEBAMASK

    def __init__(self, bad=None):
        self.ids, self.bad = ["b", "a"], bad

    def __len__(self):
        return 2

    def __getitem__(self, i):
        if self.bad == "raises":
            raise OSError("no such disk")
        labels = torch.full((40, 48), 99 if self.bad else 13, dtype=torch.uint8).numpy()
        return FaceSample(self.ids[i], torch.full((40, 48, 3), 90 + i, dtype=torch.uint8).numpy(), labels)

class Counting(Metric):
    columns, higher_is_better = ("counting",), {"counting": None}
    value = float("nan")

    def score(self, pair):
        return {"counting": self.value}

    def identity(self):
        return declared("counting", implementation="test", version="1", bounds=[0, 1], unit="1",
                        higher_is_better=None, resize=NO_RESIZE)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the module ``own_parts``, which is the current one."""
    (tmp_path / "own_parts.py").write_text(OWN)
    (tmp_path / "broken_parts.py").write_text("raise OSError('no library')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    plugins.find.cache_clear()
    yield tmp_path
    plugins.find.cache_clear()
    sys.modules.pop("own_parts", None)


def odd(way, *more):
    return (
        "editor=python",
        "editor.target=own_parts:Odd",
        f"editor.options={{way:{way}}}",
        "attributes=[hair,lips]",
        *more,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["editor.target=broken_parts:X"], r"editor 'broken_parts:X' cannot be imported \(OSError: no library\)"),
        (["editor.target=own_parts:Gone"], r"editor 'own_parts:Gone' cannot be imported \(AttributeError: .*'Gone'\)"),
        (["editor.target=no_parts:Gone"], r"cannot be imported \(ModuleNotFoundError"),
        (["editor.target=own_parts"], r"editor.target: expected module:Class, got 'own_parts'"),
        (["editor.target=own_parts:Plain"], r"expected a subclass of semfacediff.editing.base.Editor, got Plain"),
        (odd("build")[1:3], r"editor 'own_parts:Odd' cannot be made \(RuntimeError: no licence\)"),
        (
            ["editor.target=own_parts:Odd", "editor.options={wy:x}"],
            r"unknown option 'wy'; did you mean 'way'\? known: way",
        ),
        (
            ["editor.target=own_parts:Odd", "editor.options={factor:x}"],
            r"option factor: input should be a valid number, got 'x'",
        ),
    ],
)
def test_what_is_said_of_a_class_that_cannot_be_used(here, words, message):
    with pytest.raises(UserError, match=message):
        edited(REPOSITORY, here / "run", "editor=python", *words)
    assert not (here / "run").exists()


def test_options_are_completed_and_known_to_the_record(here):
    folder = edited(REPOSITORY, here / "run", *odd("well"), "metrics.columns=[psnr]")
    run = json.loads((folder / "run.json").read_text())
    own = {"name": "own_parts:Odd", "way": "well", "times": [1, 2], "factor": 1.0}
    assert run["identity"]["config"]["editor"] == own
    (here / "own_parts.py").write_text(OWN + "# changed")
    with pytest.raises(UserError, match=r"inputs.editor.digest was"):
        edited(REPOSITORY, here / "run", *odd("well"), "metrics.columns=[psnr]")
    (here / "own_parts.py").unlink()  # a record is read without it
    sys.modules.pop("own_parts")
    plugins.find.cache_clear()
    assert cli.main(["strata", str(folder), "--by", "region_size"]) == 0
    from semfacediff.tables.text import editing_report

    assert "own_parts:Odd" in editing_report(folder, REPOSITORY)


@pytest.mark.parametrize(
    ("way", "error"),
    [
        ("sometimes", "RuntimeError: no such thing"),
        ("missing", "ValueError: the edit has values nan..nan; editors return photos in [0,1]"),
        ("size", "ValueError: the edit is [3, 63, 64], its photo [3, 64, 64]; editors keep the size"),
    ],
)
def test_an_editor_that_fails_costs_its_own_rows(here, way, error):
    with pytest.raises(AssertionError):  # exit code 1
        edited(REPOSITORY, here / "run", *odd(way), "metrics.columns=[psnr]")
    rows = [json.loads(line) for line in (here / "run" / "samples.jsonl").read_text().splitlines()]
    assert {row["attribute"] for row in rows if row["error"] is None} == {"hair"}
    assert {row["error"] for row in rows if row["attribute"] == "lips"} == {error}


def test_an_editor_that_writes_into_its_request_harms_nothing(here):
    kept = ["sample_id", "attribute", "coverage", "psnr_outside", "psnr_outside_raw", "mask_blend", "edit_sha256"]
    frames = []
    for way in ("writes", "half"):
        folder = edited(REPOSITORY, here / way, *odd(way), "metrics.columns=[psnr]")
        frames.append(pd.read_parquet(folder / "samples.parquet")[kept])
    pd.testing.assert_frame_equal(*frames)


def test_a_metric_that_returns_nan_costs_the_row(here):
    with pytest.raises(AssertionError):
        edited(REPOSITORY, here / "run", "metrics.columns=[psnr,own_parts:Counting]")
    row = json.loads((here / "run" / "samples.jsonl").read_text().splitlines()[0])
    assert row["error"] == "ValueError: Counting returned NaN for counting; a missing value is None"
    with pytest.raises(UserError, match=r"metrics.options: 'Other' is no metric of one's own in metrics.columns"):
        edited(REPOSITORY, here / "other", "metrics.options={Other:{x:1}}")


@pytest.fixture
def site(here, monkeypatch):
    """Ten installed packages with an editor each, the first of which is good; the others may never be imported."""
    folder = here / "site"
    for i in range(10):
        info = folder / f"pack{i}-1.{i}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pack{i}\nVersion: 1.{i}\n")
        (info / "entry_points.txt").write_text(f"[semfacediff.editors]\nodd{i} = pack{i}:Odd\n")
        touched = f"open({str(here / 'imported')!r}, 'a').write('{i}')\n"
        (folder / f"pack{i}.py").write_text(OWN if i == 0 else touched)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_installed_packages(here, site, capsys):
    folder = edited(REPOSITORY, here / "run", "editor=odd0", "editor.options={way:half}", "metrics.columns=[psnr]")
    run = json.loads((folder / "run.json").read_text())
    assert run["identity"]["config"]["editor"]["name"] == "odd0"
    assert run["editor"]["package"] == "pack0 1.0"
    capsys.readouterr()
    assert cli.main(["list", "editors"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"odd9 +pack9 1.9 \(pack9:Odd\)", out)
    assert re.search(r"recolor +semfacediff\n", out)
    (site / "pack9-1.9.dist-info" / "entry_points.txt").write_text("[semfacediff.editors]\nodd0 = pack9:Odd\n")
    plugins.find.cache_clear()
    with pytest.raises(UserError, match=r"editor 'odd0' is registered by pack. .* and pack. .*; uninstall one"):
        plugins.find("editor", "odd0")
    (site / "pack9-1.9.dist-info" / "entry_points.txt").write_text("[semfacediff.editors]\ncontrol = pack9:Odd\n")
    with pytest.raises(UserError, match=r"'control' is registered by semfacediff itself and pack9 1.9"):
        plugins.find("editor", "control")
    assert not (here / "imported").exists()


def test_built_in_ones_register_as_plug_ins_do():
    """There is no second list: each choice of a group is found as one of a package would be."""
    for kind in ("editor", "parser", "data"):
        for file in (REPOSITORY / "conf" / kind).glob("*.yaml"):
            name = composed("evaluate", [f"{kind}={file.stem}"], REPOSITORY)[kind].name
            if file.stem not in ("python", "checkpoint"):
                assert plugins.find(kind, name) or (kind == "parser" and registry.kind(name)), file


def test_help_imports_no_plug_in(here, site):
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{site}"}
    for words in (["--help"], ["evaluate", "--cfg", "job"]):
        done = subprocess.run([sys.executable, "-m", "semfacediff.cli", *words], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
    assert not (here / "imported").exists()


@pytest.mark.parametrize("kind", ["editors", "metrics", "parsers", "data"])
def test_the_list(kind, capsys):
    assert cli.main(["list", kind]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    expected = {"editors": "recolor", "metrics": "ssim", "parsers": "face_lite", "data": "toy"}[kind]
    assert expected in names
    assert "python" not in names


def parsed_by(way):
    return "parser=python", "parser.target=own_parts:Halves", f"parser.options={{way:{way}}}", "metrics.columns=[iou]"


def test_a_class_that_parses(here):
    run = json.loads((edited(REPOSITORY, here / "run", *parsed_by("well")) / "run.json").read_text())
    assert run["parser"]["name"] == "own_parts:Halves"
    parser = run["identity"]["config"]["parser"]
    assert (parser["name"], parser["options"]) == ("own_parts:Halves", {"way": "well"})
    assert run["identity"]["inputs"]["parser"] == run["parser"]["digest"]
    assert pd.read_parquet(here / "run" / "samples.parquet")["iou"].eq(1).all()
    with pytest.raises(UserError, match=r"parser 'own_parts:Halves' is no architecture but parses by itself"):
        semfacediff.parsing.build_parser("own_parts:Halves")


@pytest.mark.parametrize(("way", "errors"), [("sometimes", [False, True]), ("size", [True, True])])
def test_a_parser_that_fails_costs_its_own_rows(here, way, errors):
    with pytest.raises(AssertionError):
        edited(REPOSITORY, here / "run", *parsed_by(way))
    rows = [json.loads(line) for line in (here / "run" / "samples.jsonl").read_text().splitlines()]
    assert [row["error"] is not None for row in rows] == errors


def test_a_data_set(here):
    def opened(**options):
        plain = {"name": "python", "target": "own_parts:Faces", "options": options, "split": "all", "subset": None}
        rule = {"by": "id", "modulo": 10, "val": [0], "test": []}
        return open_data(config.checked(config.OtherData, plain | {"n": None, "split_rule": rule}))

    data = opened()
    assert data.faces.ids == ["a", "b"]
    assert data.faces[0].photo[0, 0, 0] == 91
    assert data.digest == opened(bad=None).digest
    with pytest.raises(UserError, match=r"sample 'a' cannot be used \(labels: 99 lies outside space 'celebamask'"):
        opened(bad="labels")
    with pytest.raises(UserError, match=r"data 'own_parts:Faces': sample 'a' cannot be used \(no such disk\); fix"):
        opened(bad="raises")

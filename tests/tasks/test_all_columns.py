"""Every column of ``samples`` and ``summary`` from supplied weights, against the libraries' own calls."""

import json
import re
import warnings
from pathlib import Path

import cv2
import lpips
import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score, inception
from skimage.metrics import structural_similarity

from semfacediff import config, tasks
from semfacediff.editing.precomputed import Precomputed
from semfacediff.hydra_app import composed
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.kernel import polynomial_mmd
from semfacediff.metrics.mask_iou import IoUFloor
from semfacediff.metrics.weights import MissingWeightsError

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP = "ViT-S-32-alt"
SIZE = 128
LIPS = (11, 12)
# The thesis's settings with every length divided by eight, so that the blur is again 15 px wide with sigma 7.
THESIS = f"protocol=thesis working_size={SIZE} region.feather_sigma_px={7 * 1024 // SIZE}".split()
VARYING = ["latency_s", "peak_memory_mib"]
PYTORCH_FIDS = fid_score.calculate_frechet_distance


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    return write_files(tmp_path_factory.mktemp("files"), [(128, 64), (96, 80), (64, 64), (72, 90)], ["lips"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory, alexnet_file) -> dict[str, Path]:
    """Untrained weights of all three networks, in files."""
    folder = tmp_path_factory.mktemp("all_weights")
    torch.manual_seed(2)
    clip = open_clip.create_model(CLIP).state_dict()
    head = torch.nn.Linear(2048, 1008)
    net = Inception(None, "random", torch.device("cpu")).net.state_dict()
    net |= {"fc.weight": head.weight.detach(), "fc.bias": head.bias.detach()}
    for name, state in (("clip", clip), ("inception", net)):
        torch.save(dict(state), folder / f"{name}.pth")
    return {"lpips_alexnet": alexnet_file, "clip": folder / "clip.pth", "inception": folder / "inception.pth"}


def settings(root, weights, *overrides):
    words = "data=folder parser=precomputed editor=precomputed attributes=[lips] strips=0 runtime.device=cpu".split()
    words += f"runtime.workers=0 metrics=full metrics.clip.model={CLIP} weights.download=false".split()
    words += [f"data.root={root}", f"editor.root={root}/edits", f"parser.root={root}/parses"]
    words += [f"weights.{key}={file}" for key, file in weights.items()]
    return config.typed(composed("evaluate", [*words, *overrides], REPOSITORY), config.EditingEvaluation)


def table(folder):
    return pd.read_parquet(folder / "samples.parquet").set_index("sample_id")


def summary(folder):
    return pd.read_csv(folder / "summary.csv").set_index("attribute")


def record(folder):
    return json.loads((folder / "run.json").read_text())


def resized(file, resample=Image.Resampling.LANCZOS):
    with Image.open(file) as image:
        return np.asarray(image.resize((SIZE, SIZE), resample))


def alexnet(file):
    """``lpips.LPIPS`` whose convolutions are overwritten, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    state, layers = torch.load(file), [m for m in net.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for layer, index in zip(layers, (0, 3, 6, 8, 10), strict=True):
        layer.weight.data, layer.bias.data = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
    return net


@torch.no_grad()
def of_each(root, weights, prompt):
    """LPIPS, SSIM, IoU and CLIP of every edit, as the thesis's listing computes them."""
    perceptual = alexnet(weights["lpips_alexnet"])
    clip, _, preprocess = open_clip.create_model_and_transforms(CLIP, pretrained=str(weights["clip"]))
    text = clip.eval().encode_text(open_clip.get_tokenizer(CLIP)([prompt]))[0]
    for id_ in "abcd":
        photo, edit = (resized(root / f"{f}/{id_}.png") for f in ("images", "edits/lips"))
        before, after = (
            np.isin(resized(root / f"parses/{f}/{id_}.png", Image.Resampling.NEAREST), LIPS)
            for f in ("before", "after/lips")
        )
        outside = cv2.GaussianBlur(before.astype(np.uint8) * 255, (15, 15), 7) < 128
        x, y = (torch.tensor(p / 127.5 - 1, dtype=torch.float32).permute(2, 0, 1)[None] for p in (photo, edit))
        keep = torch.tensor(outside.astype(np.float32))
        grey = [np.asarray(Image.fromarray(p).convert("L")) * outside for p in (photo, edit)]
        seen = clip.encode_image(preprocess(Image.fromarray(edit))[None])[0]
        yield (
            id_,
            {
                "lpips": perceptual(x * keep, y * keep).item(),
                "ssim": structural_similarity(*grey, data_range=255),
                "iou": (before & after).sum() / (before | after).sum(),
                "clip": torch.nn.functional.cosine_similarity(seen, text, dim=0).item(),
            },
        )


def activations(root, weights, folder, monkeypatch):
    """pytorch-fid's features of photos and edits, from PNG files at the working size."""
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: torch.load(weights["inception"]))
    net = inception.InceptionV3([3])
    for kind, source in (("photos", "images"), ("edits", "edits/lips")):
        files = []
        for id_ in "abcd":
            files.append(folder / f"{kind}_{id_}.png")
            Image.fromarray(resized(root / source / f"{id_}.png")).save(files[-1])
        yield fid_score.get_activations(files, net, batch_size=2, num_workers=0)


def assert_told(run, printed):
    """Record and table name dialect, weights and doubts."""
    said = run["identity"]["inputs"]["metrics"]
    assert said["fid"]["dialect"] == "pytorch-fid 0.3.0, uint8 PNG, bilinear 299"
    assert all(said[m]["weights"].startswith("sha256:") for m in ("lpips", "fid", "kid"))
    assert said["clip"]["weights"].startswith("tensors:")
    assert said["clip"]["model"] == CLIP
    assert len(run["not_comparable"]) == 3
    assert "fid[pytorch-fid 0.3.0, uint8 PNG, bilinear 299, n=4]" in printed
    assert "FID over n = 4 is biased upwards" in printed
    assert "FID (down)" in printed
    assert "not comparable: fid, kid: weights sha256:" in printed


def in_their_span(mean_a, covariance_a, mean_b, covariance_b):
    """pytorch-fid's distance, in an orthonormal basis of the few directions in which a few photos differ at all.

    A rotation leaves the distance alone and so does leaving out directions of zeros, but the root is of a matrix of a
    dozen rows instead of 2,048: milliseconds instead of 16 s.
    """
    probes = np.random.default_rng(0).normal(size=(len(mean_a), 6))
    spanning = np.column_stack([covariance_a @ probes, covariance_b @ probes, mean_a, mean_b])
    basis, _ = np.linalg.qr(spanning)
    turned = [basis.T @ x if x.ndim == 1 else basis.T @ x @ basis for x in (mean_a, covariance_a, mean_b, covariance_b)]
    return PYTORCH_FIDS(*turned)


def test_the_distance_in_the_span_is_pytorch_fids():
    x, y = (np.random.default_rng(seed).normal(seed, 1 + seed, (5, 96)) for seed in (0, 1))
    arguments = x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False)
    assert in_their_span(*arguments) == pytest.approx(PYTORCH_FIDS(*arguments), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["in their span", "whole"])
def test_thesis_values_equal_the_libraries(files, weights, tmp_path, monkeypatch, capsys, distance):
    if distance == "in their span":
        monkeypatch.setattr(fid_score, "calculate_frechet_distance", in_their_span)
    run = settings(files, weights, *THESIS)
    assert tasks.start(run, tmp_path / "run") == 0
    assert_told(record(tmp_path / "run"), capsys.readouterr().out)
    samples, row = table(tmp_path / "run"), summary(tmp_path / "run").loc["lips"]
    unused = ["negative_prompt", "expanded_prompt", "note", "error", "traits", "pose_proxy"]  # these faces have no nose
    unused += list(IoUFloor.columns)  # and these label maps no network
    assert samples.drop(columns=unused).notna().all(axis=None)
    assert row.drop([c for c in row.index if c.startswith("iou_floor")]).notna().all()
    expected = dict(of_each(files, weights, run.prompts.texts["lips"]))
    for id_, values in expected.items():
        for column, value in values.items():
            assert samples.loc[id_, column] == pytest.approx(value, abs=1e-5), (id_, column)
    for column in ("lpips", "ssim", "iou", "clip"):
        values = [v[column] for v in expected.values()]
        assert row[f"{column}_mean"] == pytest.approx(np.mean(values), abs=1e-5)
        assert row[f"{column}_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    photos, edits = activations(files, weights, tmp_path, monkeypatch)
    statistics = photos.mean(0), np.cov(photos, rowvar=False), edits.mean(0), np.cov(edits, rowvar=False)
    assert row["fid"] == pytest.approx(fid_score.calculate_frechet_distance(*statistics), rel=1e-4)
    assert row["fid_n"] == 4
    splits = [np.random.default_rng(0)] * 100
    order = [draw.permutation(4) for draw in splits]
    kids = [polynomial_mmd(photos[i[:2]], edits[i[2:]]) for i in order]
    assert row["kid"] == pytest.approx(np.mean(kids), rel=1e-3)
    assert row["kid_sd"] == pytest.approx(np.std(kids, ddof=1), rel=1e-3)


FIVE = ["hair", "lips", "skin", "eyes", "eyebrows"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "attributes"),
    [
        (2, ["hair", "lips"]),
        pytest.param(2, FIVE, marks=pytest.mark.slow),
        pytest.param(4, FIVE, marks=pytest.mark.slow),
    ],
)
def test_the_thesiss_table_is_filled(weights, checkpoint, tiny_sdxl, tmp_path, monkeypatch, capsys, n, attributes):
    """``experiment=thesis/table_6_1`` at the twin's size; KID needs four photos, and says so with two."""
    if n == 2:
        monkeypatch.setattr(fid_score, "calculate_frechet_distance", in_their_span)
    words = f"experiment=thesis/table_6_1 data=toy data.count={n} data.size=64 data.n={n} editor.steps=2".split()
    words += f"editor.native_size=32 working_size=64 weights.root={tiny_sdxl} parser.checkpoint={checkpoint}".split()
    words += f"metrics.clip.model={CLIP} runtime.device=cpu runtime.workers=0 strips=0".split()
    words += [f"weights.{key}={file}" for key, file in weights.items()]
    words += [f"attributes=[{','.join(attributes)}]"] if attributes != FIVE else []
    run = config.typed(composed("evaluate", words, REPOSITORY), config.EditingEvaluation)
    assert tasks.start(run, tmp_path) == 0
    samples, rows, printed = table(tmp_path), summary(tmp_path), capsys.readouterr().out
    assert list(rows.index) == attributes
    assert len(samples) == len(attributes) * n
    assert samples[["lpips", "ssim", "iou", "clip", "latency_s", "peak_memory_mib"]].notna().all(axis=None)
    assert set(samples["negative_prompt"]) == {""}
    scored = [f"{metric}_{value}" for metric in ("lpips", "ssim", "iou", "clip") for value in ("mean", "sd")]
    assert rows[[*scored, "fid", "fid_n", "latency_s_median"]].notna().all(axis=None)
    assert rows[["kid", "kid_sd"]].notna().all(axis=None) == (n == 4)
    assert ("kid of hair is empty: 2 photos, at least 4 are needed" in printed) == (n == 2)
    stamps = record(tmp_path)["not_comparable"]
    assert "editor: random weights, for tests" in stamps
    for columns in ("lpips", "clip", "fid, kid"):
        assert any(re.match(rf"{columns}: weights (sha256|tensors):", stamp) for stamp in stamps), columns


WITHOUT_FID = "metrics.columns=[clip,kid]"


@pytest.fixture(scope="module")
def strict(files, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strict") / "run"
    assert tasks.start(settings(files, weights, WITHOUT_FID), folder) == 0
    return folder


@pytest.mark.slow
def test_strict_fills_them_too(strict):
    assert table(strict)[["clip", "clip_raw"]].notna().all(axis=None)
    row = summary(strict).loc["lips"]
    assert row[["clip_mean", "clip_sd", "kid", "kid_sd"]].notna().all()
    assert row[["fid", "fid_n", "lpips_mean"]].isna().all()
    with np.load(strict / "features" / "lips.npz") as kept:
        assert kept["ids"].tolist() == list("abcd")
        assert kept["features"].shape == (4, 2048)
        assert kept["features"].dtype == np.float32


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_numbers(strict, files, weights, tmp_path, monkeypatch):
    edit, seen = Precomputed.edit, []

    def stopping(self, requests):
        seen.append(requests)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return edit(self, requests)

    run = settings(files, weights, WITHOUT_FID, "runtime.batch_size=1")
    monkeypatch.setattr(Precomputed, "edit", stopping)
    with pytest.raises(KeyboardInterrupt):
        tasks.start(run, tmp_path)
    assert tasks.start(run, tmp_path) == 0
    pd.testing.assert_frame_equal(table(tmp_path).drop(columns=VARYING), table(strict).drop(columns=VARYING))
    for name in ("photos", "lips"):
        with np.load(tmp_path / f"features/{name}.npz") as a, np.load(strict / f"features/{name}.npz") as b:
            assert np.array_equal(a["features"], b["features"])
    a, b = (pd.read_csv(f / "summary.csv", dtype=str).drop(columns="latency_s_median") for f in (tmp_path, strict))
    pd.testing.assert_frame_equal(a, b)


def test_one_photo_has_no_distance_and_a_long_prompt_is_told(files, weights, tmp_path, capsys):
    prompt = f"prompts.lips='{'rosy ' * 90}'"
    columns = "metrics.columns=[clip,fid,kid]"
    assert tasks.start(settings(files, weights, columns, "data.n=1", prompt), tmp_path) == 0
    row, printed = summary(tmp_path).loc["lips"], capsys.readouterr().out
    assert row[["fid", "kid", "kid_sd"]].isna().all()
    assert row["fid_n"] == 1
    assert "fid, kid of lips are empty: 1 photo, at least 2 are needed" in printed
    assert table(tmp_path).loc["a", "note"] == "CLIP reads 77 tokens, the prompt has 92; the rest is unscored"
    assert "lips: CLIP reads 77 tokens, the prompt has 92; the rest is unscored (1 edits)" in printed


def test_missing_weights_leave_their_columns_empty_and_say_so(files, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    some = {k: v for k, v in weights.items() if k != "inception"}
    skip = ("metrics.columns=[ssim,fid,kid]", "metrics.on_missing=skip", "data.n=2")
    assert tasks.start(settings(files, some, *skip), tmp_path / "run") == 0
    assert set(record(tmp_path / "run")["empty_columns"]) == {"fid", "kid"}
    assert "6726825d" in record(tmp_path / "run")["empty_columns"]["kid"]
    with pytest.raises(MissingWeightsError, match=r"weights\.inception: pt_inception-2015-12-05-6726825d\.pth"):
        tasks.start(settings(files, some, "metrics.columns=[kid]"), tmp_path / "other")

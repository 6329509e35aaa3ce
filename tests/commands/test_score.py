"""``semfacediff score``: edits of any layout get the scores that ``editor=precomputed`` gives them."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semfacediff import cli, config, tasks


@pytest.fixture
def folders(tmp_path, toy_samples, encode):
    """Photos in a tree of their own, edits of seven of them in another; all of hair, brighter by 40."""
    photos, edits, labels = (tmp_path / name for name in ("photos", "edits", "labels"))
    for i, s in enumerate(toy_samples(8)):
        place = photos / f"part{i % 2}"
        for folder in (place, edits / "deep", labels):
            folder.mkdir(parents=True, exist_ok=True)
        (place / f"{s.id}.png").write_bytes(encode(s.photo))
        (labels / f"{s.id}.png").write_bytes(encode(s.labels))
        if i < 7:
            bright = np.where((s.labels == 13)[..., None], np.minimum(s.photo, 215) + 40, s.photo).astype(np.uint8)
            (edits / "deep" / f"{s.id}.webp").write_bytes(encode(bright, "webp", lossless=True))
    return photos, edits, labels


def scored(folders, out, *more):
    photos, edits, labels = folders
    words = ["score", "--photos", str(photos), "--edits", str(edits), "--attribute", "hair", "--prompt", "bright hair"]
    regions = [] if "--parser" in more else ["--labels", str(labels)]
    return cli.main([*words, *regions, "--device", "cpu", "--out", str(out), *more])


@pytest.mark.slow
def test_the_same_as_the_precomputed_editor(folders, tmp_path, compose, capsys):
    photos, edits, labels = folders
    assert scored(folders, tmp_path / "run") == 0
    told = capsys.readouterr()
    assert "score: left out, there is no edit: 1 of 8 photos (00007)" in told.err
    assert "score: taken: 7 of 7 edits" in told.err
    assert "| hair" in told.out
    root = tmp_path / "root"
    for name in ("images", "masks", "edits/hair"):
        (root / name).mkdir(parents=True)
    for file in (edits / "deep").iterdir():
        Image.open(file).save(root / "edits/hair" / f"{file.stem}.png")
        (photo,) = photos.rglob(f"{file.stem}.png")
        (root / "images" / photo.name).write_bytes(photo.read_bytes())
        (root / "masks" / photo.name).write_bytes((labels / photo.name).read_bytes())
    words = ["data=folder", f"data.root={root}", "editor=precomputed", f"+editor.root={root / 'edits'}"]
    words += ["attributes=[hair]", "prompts.hair=bright hair", "parser=ground_truth", "metrics.on_missing=skip"]
    settings = config.typed(compose("evaluate", *words, "runtime.device=cpu"), config.EditingEvaluation)
    assert tasks.start(settings, tmp_path / "plain") == 0
    one, other = (json.loads((tmp_path / run / "run.json").read_text()) for run in ("run", "plain"))
    assert one["identity"] == other["identity"]
    unlike = ["latency_s", "peak_memory_mib", "inputs_sha256"]  # the files' bytes, here WebP and there PNG
    rows = [pd.read_parquet(tmp_path / run / "samples.parquet").drop(columns=unlike) for run in ("run", "plain")]
    pd.testing.assert_frame_equal(*rows)
    assert str(tmp_path) not in (tmp_path / "run" / "config.yaml").read_text() + (tmp_path / "run/run.json").read_text()
    assert scored(folders, tmp_path / "run") == 0  # finished: its table again


def test_edits_without_a_photo_and_of_another_size(folders, tmp_path, capsys):
    _, edits, _ = folders
    for name in "xyz":
        Image.new("RGB", (64, 64)).save(edits / f"{name}.png")
    for id_, size in (("00000", (128, 128)), ("00001", (64, 48))):
        file = edits / "deep" / f"{id_}.webp"
        Image.open(file).resize(size).save(file)
    assert scored(folders, tmp_path / "run") == 1
    told = capsys.readouterr().err
    assert "score: left out, there is no photo: 3 of 10 edits (x, y, z)" in told
    assert "resized, another size than the photo's: 1 of 7 edits (00000: 128x128 for 64x64 px)" in told
    assert (
        "not scored without --resize fit or stretch, another aspect ratio than the photo's: 1 of 7 edits (00001: 64x48"
        in told
    )
    rows = pd.read_parquet(tmp_path / "run" / "samples.parquet").set_index("sample_id")
    assert rows.index[rows["status"] == "error"].tolist() == ["00001"]
    assert "another aspect ratio" in rows["error"]["00001"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--photos", "nowhere"], r"error: --photos: expected a folder at nowhere, found none; correct the path"),
        (["--attribute", "hairs"], r"error: .*'hairs'"),
        (["--prompt", " "], r"error: the prompt for 'hair' "),
        (["--parser", "nowhere/at/all"], r"error: .*nowhere/at/all"),
    ],
)
def test_mistakes(folders, tmp_path, capsys, change, message):
    assert scored(folders, tmp_path / "run", *change) == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_folder_that_edit_writes(folders, tmp_path, capsys):
    for id_ in ("00000", "00001"):
        own = tmp_path / "edits" / "deep" / id_
        own.mkdir()
        (own / "edit.json").write_text("{}")
        for name in ("1_hair_blend", "strip"):
            Image.new("RGB", (64, 64)).save(own / f"{name}.png")
    assert scored(folders, tmp_path / "run") == 0
    assert "strip" not in capsys.readouterr().err


def test_names_that_fit_none_or_two(folders, tmp_path, capsys, encode):
    photos, edits, labels = folders
    (edits / "00000.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8)))
    assert scored(folders, tmp_path / "run") == 2
    assert "--edits: '00000' occurs twice, as " in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "q.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8)))
    assert scored((photos, tmp_path / "other", labels), tmp_path / "run") == 2
    assert "no edit has the name of a photo (8 photos in " in capsys.readouterr().err

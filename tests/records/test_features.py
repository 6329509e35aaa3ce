"""Features of a data set in parts are those of the whole, to the last bit, and so is what is made of them."""

import itertools

import numpy as np
import pytest

from semfacediff.errors import UserError
from semfacediff.metrics.moments import Moments
from semfacediff.metrics.set_scores import SetScores
from semfacediff.records.features import feature_file, merged_features, read_features, write_features

IDS = [f"{i:02d}" for i in range(11)]
WIDTH = 24


class Network:
    weights = "sha256:abc"


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    return {name: random.normal(size=(len(IDS), WIDTH)).astype(np.float32) for name in ("photos", "hair")}


def parts(tmp_path, rows, cuts, name=""):
    """A run for each part of the data set; ``cuts``: which part a photo is in."""
    folders = []
    for k in sorted(set(cuts)):
        chosen = [i for i, cut in enumerate(cuts) if cut == k]
        folders.append(tmp_path / f"{name}{k}")
        for kind, all_rows in rows.items():
            write_features(folders[-1], kind, [IDS[i] for i in chosen], all_rows[chosen])
    return folders


@pytest.mark.parametrize("cuts", [[0] * 11, [i % 3 for i in range(11)], [i // 4 for i in range(11)]])
def test_any_parts_in_any_order_are_the_whole(tmp_path, rows, cuts):
    scores = SetScores(("fid", "kid"), Network())
    whole = scores.score(rows["photos"], rows["hair"])
    assert whole[0]["fid"] > 1
    for order in itertools.permutations(parts(tmp_path, rows, cuts)):
        photos, edits = (merged_features(order, name) for name in ("photos", "hair"))
        assert photos[0] == edits[0] == IDS
        assert np.array_equal(photos[1], rows["photos"])
        assert photos[1].dtype == np.float32
        assert scores.score(photos[1], edits[1]) == whole


def test_moments_of_parts_add_up_to_the_wholes(tmp_path, rows):
    folders = parts(tmp_path, rows, [i % 3 for i in range(11)])
    one, *others = (Moments.of(np.array(list(read_features(f, "hair").values()))) for f in folders)
    merged, whole = one.merged(others), Moments.of(rows["hair"])
    assert merged.n == whole.n == 11
    np.testing.assert_allclose(merged.total, whole.total, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(merged.outer, whole.outer, rtol=1e-13, atol=1e-13)
    assert merged.total.dtype == merged.outer.dtype == np.float64


def test_a_photo_in_two_parts_is_refused(tmp_path, rows):
    folders = parts(tmp_path, rows, [0] * 11) + parts(tmp_path, rows, [0] * 11, "again")
    with pytest.raises(UserError, match=r"again0/features/hair.npz: '00' \(of 11\) was measured by another run too"):
        merged_features(folders, "hair")


def test_missing_or_damaged_features_are_a_sentence(tmp_path, rows):
    (folder,) = parts(tmp_path, rows, [0] * 11)
    with pytest.raises(UserError, match=r"lips\.npz: no features can be read \(FileNotFoundError\); repeat the run"):
        merged_features([folder], "lips")
    file = feature_file(folder, "hair")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match=r"hair\.npz: no features can be read \(BadZipFile\)"):
        read_features(folder, "hair")
    write_features(folder, "hair", ["a", "a"], np.zeros((2, 3), np.float32))
    with pytest.raises(UserError, match=r"hair\.npz: 2 ids and features \[2, 3\] do not belong together"):
        read_features(folder, "hair")


def test_no_photo_at_all(tmp_path):
    write_features(tmp_path, "hair", [], np.zeros((0, 3), np.float32))
    ids, found = merged_features([tmp_path], "hair")
    assert ids == []
    assert len(found) == 0

"""Where weights are looked for, and what is said when they are not there."""

import hashlib
import pickle

import pytest
import torch

from semfacediff.downloads import DownloadError
from semfacediff.errors import UserError
from semfacediff.metrics import weights
from semfacediff.metrics.weights import LPIPS_ALEXNET, MissingWeightsError, PublicFile, PublicWeights, find


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """An empty library cache, whatever this machine has; and no way out to the network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def no_network(_):
        raise DownloadError("network is off")

    monkeypatch.setattr(weights, "fetched", no_network)
    return tmp_path / "hub" / "checkpoints"


def saved(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"x": torch.tensor(float(value))}, file)
    return file


def test_order_is_explicit_then_root_then_cache_then_download(tmp_path, empty_cache, monkeypatch):
    explicit = saved(tmp_path / "mine.pth", 1)
    root = saved(tmp_path / "root" / LPIPS_ALEXNET.files[0].file, 2).parent
    cached = saved(empty_cache / LPIPS_ALEXNET.files[0].file, 3)

    def found(explicit, root, download=False):
        return find(LPIPS_ALEXNET, explicit and str(explicit), root and str(root), download).state["x"].item()

    assert found(explicit, root) == 1
    assert found(None, root) == 2
    assert found(None, tmp_path / "elsewhere") == 3
    cached.unlink()
    monkeypatch.setattr(weights, "fetched", lambda _: saved(cached, 4))
    assert found(None, None, download=True) == 4


def test_records_name_weights_by_digest_and_know_the_public_ones(tmp_path):
    file = saved(tmp_path / "mine.pth", 1)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = find(LPIPS_ALEXNET, str(file), None, download=False)
    assert found.name == f"sha256:{digest}"
    assert not found.comparable
    public = PublicWeights("lpips_alexnet", (), (PublicFile("x.pth", 1, digest, url="https://example.org/x.pth"),))
    assert find(public, str(file), None, download=False).comparable


def test_random_weights_are_not_comparable():
    found = find(LPIPS_ALEXNET, "random", None, download=False)
    assert (found.state, found.name, found.comparable) == (None, "random", False)


@pytest.mark.parametrize(
    ("download", "why"), [(False, "weights.download is off"), (True, "could not be downloaded (network is off)")]
)
def test_a_miss_names_file_place_size_digest_and_ways_out(empty_cache, download, why):
    with pytest.raises(MissingWeightsError) as e:
        find(LPIPS_ALEXNET, None, None, download)
    for part in (
        "weights.lpips_alexnet",
        "alexnet-owt-7be5be79.pth",
        "244 MB",
        "SHA-256 7be5be79",
        "weights.root",
        str(empty_cache),
        why,
        "fetch it with 'semfacediff fetch lpips_alexnet'",
        "weights.lpips_alexnet=FILE",
        "metrics.on_missing=skip",
    ):
        assert part in str(e.value)
    assert "\n" not in str(e.value)


def test_nothing_is_downloaded_unless_allowed(monkeypatch):
    monkeypatch.setattr(weights, "fetched", lambda _: pytest.fail("went to the network"))
    with pytest.raises(MissingWeightsError):
        find(LPIPS_ALEXNET, None, None, download=False)


def test_home_is_abbreviated_for_messages_enter_records(monkeypatch, tmp_path):
    monkeypatch.setattr(weights.Path, "home", lambda: tmp_path)
    with pytest.raises(MissingWeightsError, match=r"nor in ~/hub/checkpoints"):
        find(LPIPS_ALEXNET, None, None, download=False)


def test_explicit_path_that_is_not_there_is_no_reason_to_search_elsewhere(tmp_path, empty_cache):
    saved(empty_cache / LPIPS_ALEXNET.files[0].file, 3)
    with pytest.raises(UserError, match=r"weights\.lpips_alexnet: no file at .*gone\.pth; correct the path"):
        find(LPIPS_ALEXNET, str(tmp_path / "gone.pth"), None, download=False)


class Carrier:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable weights file"),
        (b"text", "refused|not a readable weights file"),
        (pickle.dumps(Carrier(), protocol=2), "refused, the pickle carries code"),
        (pickle.dumps([1, 2], protocol=2), "expected a dictionary of tensors|not a readable"),
    ],
)
def test_a_damaged_or_dangerous_file_is_refused(tmp_path, capsys, data, message):
    file = tmp_path / "bad.pth"
    file.write_bytes(data)
    with pytest.raises(UserError, match=rf"bad\.pth: .*({message})"):
        find(LPIPS_ALEXNET, str(file), None, download=False)
    assert "code ran" not in capsys.readouterr().out

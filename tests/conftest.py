"""Fixtures for every test: toy data in files, an untrained checkpoint, markers that skip with a reason.

The suite runs on the CPU and offline, whatever the machine offers. Markers: ``gpu``, ``weights`` (run where what they
need is there), ``slow`` (run with ``--slow``), ``more`` (run with ``--more``), ``shared_data`` (run where
``SEMFACEDIFF_SHARED_DATA`` names a folder).
"""

import os

# Before anything imports torch or the hub: an accelerator would change floats, a download would hide a missing file.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", WANDB_MODE="disabled")
# One thread unless asked: tests run in parallel processes. Programs that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = os.environ.get("SEMFACEDIFF_TEST_THREADS", "1")
os.environ.pop("SEMFACEDIFF_DATA", None)
os.environ.pop("SEMFACEDIFF_EXPERIMENTS", None)

import functools
import hashlib
import io
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, settings
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from skimage import data

from semfacediff import hydra_app
from semfacediff.data.toy import ToyFaces
from semfacediff.faces.detection import Detector

from .drawn_files import alexnet_file, checkpoint, drawn, write_files  # noqa: F401  fixtures

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = "SEMFACEDIFF_SHARED_DATA"

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
cv2.setNumThreads(torch.get_num_threads())
# No deadline: a loaded machine is slow, not wrong. Derandomised: the same examples on every machine.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--more", action="store_true", help="also run tests marked more")


def _why_skipped(marker: str, config) -> str | None:
    """Why tests with ``marker`` cannot run here; ``None`` if they can."""
    if marker == "gpu" and not torch.cuda.is_available():
        return "needs an accelerator"
    if marker == "weights" and not any((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-owt-*.pth")):
        return "needs downloaded weights in torch's cache"
    if marker in ("slow", "more") and not config.getoption(f"--{marker}"):
        return f"{marker}; run with --{marker}"
    if marker == "shared_data" and not Path(os.environ.get(SHARED_DATA, "")).is_absolute():
        return f"needs {SHARED_DATA}=DIR, the folder of the CelebAMask-HQ subset"
    return None


def pytest_collection_modifyitems(config, items):
    reasons = {m: _why_skipped(m, config) for m in ("gpu", "weights", "slow", "more", "shared_data")}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """What is cached between runs starts empty and stays out of the user's folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def largest_rounding(operations: int, magnitude: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """How far two orders of the same computation may lie apart: ``operations * eps * magnitude``.

    A sum of n products is at most n * eps / 2 * sum(|x * y|) off, in whatever order a processor adds it up (Higham,
    Accuracy and Stability of Numerical Algorithms, 3.1); each of the two results may be.

    Args:
        operations: roundings behind one value: the lengths of its sums, added up.
        magnitude: of the terms that are added, which is more than the sum's where they cancel.
    """
    return operations * torch.finfo(dtype).eps * magnitude


@pytest.fixture(scope="session")
def rounding() -> Callable[..., float]:
    """:func:`largest_rounding`, for tolerances of two ways to the same number."""
    return largest_rounding


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the CelebAMask-HQ subset; only for tests marked ``shared_data``."""
    return Path(os.environ[SHARED_DATA])


def encoded(image: np.ndarray | Image.Image, kind: str = "png", **options) -> bytes:
    """Bytes of an image file; ``image`` is uint8 ``[H, W, 3]``, ``[H, W]`` or a PIL image."""
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """:func:`encoded`, for tests that write defective files."""
    return encoded


@pytest.fixture(scope="session")
def toy_samples() -> Callable[[int, int], list]:
    """``toy_samples(n, size)``: the first toy faces, drawn once a session."""
    known_faces: dict[int, list] = {}

    def first(n: int, size: int = 64) -> list:
        known = known_faces.setdefault(size, [])
        known += [ToyFaces(n, size)[i] for i in range(len(known), n)]
        return known[:n]

    return first


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """uint8 ``[256, 256, 3]``: the head of an astronaut, in the public domain (NASA)."""
    return np.ascontiguousarray(data.astronaut()[:256, 96:352])


@pytest.fixture(scope="session")
def face_detector() -> Detector:
    """Opened once, which takes most of a second."""
    return Detector()


@pytest.fixture(scope="session")
def strangers() -> np.ndarray:
    """uint8 ``[N, 200, 200, 3]``: grey faces of other people, enlarged from the 25 px that scikit-image carries."""
    small = data.lfw_subset()[:100]
    large = [cv2.resize(x, (200, 200), interpolation=cv2.INTER_CUBIC) for x in small[[1, 6, 8]]]
    grey = np.rint(255 * np.clip(large, 0, 1)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.fixture
def toy_folder(tmp_path, toy_samples) -> Callable[..., Path]:
    """``toy_folder(n, size=64, name="faces", masks=True)``: a ``data=folder`` root of toy faces, all PNG.

    ``images/00000.png`` beside ``masks/00000.png`` and so on; written below ``tmp_path``.
    """

    def write(n: int, size: int = 64, name: str = "faces", masks: bool = True) -> Path:
        root = tmp_path / name
        (root / "images").mkdir(parents=True)
        if masks:
            (root / "masks").mkdir()
        for s in toy_samples(n, size):
            (root / "images" / f"{s.id}.png").write_bytes(encoded(s.photo))
            if masks:
                (root / "masks" / f"{s.id}.png").write_bytes(encoded(s.labels))
        return root

    return write


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """An uncompressed tar of ``members`` in the given order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def make_tar() -> Callable[[Path, dict[str, bytes]], Path]:
    """:func:`write_tar`, for tests that write odd shards."""
    return write_tar


@pytest.fixture
def toy_shards(tmp_path, toy_samples) -> Callable[..., Path]:
    """``toy_shards(n, size=64, per_shard=4, name="shards")``: a ``data=shards`` root of toy faces.

    ``toy-00000.tar`` and so on with ``<id>.webp`` (lossless photo) beside ``<id>.png`` (label map).
    """

    def write(n: int, size: int = 64, per_shard: int = 4, name: str = "shards") -> Path:
        root = tmp_path / name
        root.mkdir()
        samples = toy_samples(n, size)
        for k in range(0, n, per_shard):
            members = {}
            for s in samples[k : k + per_shard]:
                members[f"{s.id}.webp"] = encoded(s.photo, "webp", lossless=True)
                members[f"{s.id}.png"] = encoded(s.labels)
            write_tar(root / f"toy-{k // per_shard:05d}.tar", members)
        return root

    return write


@pytest.fixture(scope="session")
def official_tree(tmp_path_factory) -> Path:
    """The official CelebAMask-HQ layout with three drawn faces, one of each part; read it, never write into it.

    Photos of 1024 px, part masks of 512, all lists. The numbers have gaps, the mapping lists a photo that is not there,
    and the photo of the test part has no annotation.
    """
    from semfacediff.data.celebamask_layout import MAPPING
    from semfacediff.data.toy_official import write_official

    root = tmp_path_factory.mktemp("official") / "tree"
    write_official(root, [0, 20, 2001], 1024, 512, groups=(0, 1, 2))
    with open(root / MAPPING, "a") as f:
        f.write("29999       7           000007.jpg\n")
    return root


@pytest.fixture(scope="session")
def compose(repository) -> Callable[..., DictConfig]:
    """``compose(primary, *overrides)``: the untyped configuration, as the script ``<primary>.py`` would get it.

    Hydra composes every choice of groups once; values such as ``seed=3`` or ``+new=1`` are set on a copy of that.
    """
    parser = OverridesParser.create()
    groups = {p.name for p in (repository / "conf").iterdir() if p.is_dir()} | {"experiment"}

    files: dict[str, bytes] = {}  # pickles: five times as fast as a deep copy
    load = OmegaConf.load

    def once(file) -> DictConfig:
        if file.name not in files:
            files[file.name] = pickle.dumps(load(file))
        return pickle.loads(files[file.name])

    @functools.cache
    def chosen(primary: str, choices: tuple[str, ...]) -> bytes:
        with pytest.MonkeyPatch.context() as patched:  # reading the same files takes a third of the time
            patched.setattr(OmegaConf, "load", once)
            return pickle.dumps(hydra_app.composed(primary, list(choices), repository))

    def make(primary: str, *overrides: str) -> DictConfig:
        choices = tuple(o for o in overrides if o.partition("=")[0] in groups)
        cfg = pickle.loads(chosen(primary, choices))
        for override in parser.parse_overrides([o for o in overrides if o not in choices]):
            if not override.is_add():
                # The key exists, also where its value is missing, or Hydra would refuse it.
                *parents, key = override.key_or_group.split(".")
                assert key in list(OmegaConf.select(cfg, ".".join(parents)) if parents else cfg), override.input_line
            OmegaConf.update(cfg, override.key_or_group, override.value(), force_add=True)
        return cfg

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint folder of an untrained ``fastscnn_lite`` at input size 64; read it, never write into it."""
    from semfacediff.parsing import ParserCard, build_parser, save_parser

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_parser("fastscnn_lite", classes=19)
    save_parser(model, ParserCard.of_kind("fastscnn_lite", "celebamask", 64), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_synthesis(tmp_path_factory) -> Path:
    """A checkpoint folder of a tiny SCA-DM (32 px) with random weights, all of which speak; read it."""
    from semfacediff.synthesis import PRESETS, SCADM, SCADMOptions, save_synthesis

    folder = tmp_path_factory.mktemp("synthesis") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = SCADM(SCADMOptions(**{**vars(PRESETS["test"]), "vq_codes": 4096}))
        # A fine codebook, and nothing that starts as nothing: every style makes a face of its own.
        torch.nn.init.normal_(model.first_stage.vq.quantize.embedding.weight)
        for weight in model.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight.data, std=0.2)
    save_synthesis(model, folder, training={"run": "nowhere"})
    return folder


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory) -> Path:
    """An exported parser's folder with a hand-made ``model.onnx`` alone: one 1x1 convolution, input size 32; read it.

    ``expected.safetensors`` beside it has its ``weight`` ``[19,3,1,1]`` and ``bias``.
    """
    onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    from safetensors.torch import save_file

    from semfacediff.parsing.checkpoint import ParserCard, write_card

    folder = tmp_path_factory.mktemp("exported") / "tiny"
    folder.mkdir()
    g = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(19, 3, 1, 1, generator=g), torch.randn(19, generator=g)
    node = onnx.helper.make_node("Conv", ["image", "weight", "bias"], ["logits"])
    floats = onnx.TensorProto.FLOAT
    shapes = {"image": ["n", 3, "h", "w"], "logits": ["n", 19, "h", "w"]}
    (x,), (y,) = [[onnx.helper.make_tensor_value_info(n, floats, s)] for n, s in shapes.items()]
    constants = [onnx.numpy_helper.from_array(t.numpy(), n) for n, t in (("weight", weight), ("bias", bias))]
    graph = onnx.helper.make_graph([node], "tiny", [x], [y], constants)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(made, folder / "model.onnx")
    write_card(folder, ParserCard.of_kind("face_lite", "celebamask", 32))
    save_file({"weight": weight, "bias": bias}, folder / "expected.safetensors")
    return folder


@pytest.fixture
def nothing_ships(monkeypatch, tmp_path):
    """As in a checkout without the shipped parser's weights."""
    from semfacediff.parsing import default

    monkeypatch.setattr(default, "FOLDER", tmp_path / "nothing ships")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Callable[..., Path]:
    """``hub_cache(id, folder)``: the files of ``folder`` as the hub's library caches a model; its snapshot."""
    root = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root))

    def cached(id_: str, folder: Path, commit: str = "a2bf62f39dfd8f8856a3c19be8b0707a8d68abdd") -> Path:
        model = root / f"models--{id_.replace('/', '--')}"
        snapshot = model / "snapshots" / commit
        for part in (model / "blobs", model / "refs", snapshot):
            part.mkdir(parents=True, exist_ok=True)
        (model / "refs" / "main").write_text(commit)
        for file in (f for f in folder.rglob("*") if f.is_file()):
            blob = model / "blobs" / hashlib.sha256(f"{file}".encode()).hexdigest()
            shutil.copyfile(file, blob)
            link = snapshot / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        return snapshot

    return cached


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory) -> Path:
    """``weights.root`` of tiny diffusion pipelines with random weights, one for each editor; read it, never write.

    ``sdxl_inpaint`` (9 channels), ``inpaint`` (SDXL with 4), ``sd_inpaint``; they work at ``editor.native_size=64``.
    """
    from semfacediff.editing.diffusion.tiny import make_tiny

    base = tmp_path_factory.getbasetemp()
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    folder = (base.parent if parallel else base) / "pipelines"
    with FileLock(f"{folder}.lock"):  # one for all processes of the suite
        if not (folder / "complete").exists():
            make_tiny(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def published_parser(tmp_path_factory) -> Path:
    """A SegFormer B0 for 64 px with random weights, laid out as ``jonathandinu/face-parsing``; read it, never write."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    from semfacediff.labels import CELEBAMASK

    folder = tmp_path_factory.mktemp("published") / "parser"
    names = dict(enumerate(CELEBAMASK.classes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SegformerForSemanticSegmentation(SegformerConfig(id2label=names)).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder

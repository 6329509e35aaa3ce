"""Which device a run takes, what launchers ask for, and that every placement names its device; none is needed."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from semfacediff import config
from semfacediff.data.augment.on_device import ce7454_batch
from semfacediff.engine.devices import check_launch, choose_device, exact_float32
from semfacediff.engine.processes import processes, shared_record
from semfacediff.errors import UserError
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.parsing import ModelParser, load_parser

SOURCES = Path(__file__).resolve().parents[2] / "src" / "semfacediff"
LAUNCHED = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}


def asked(name):
    return config.DeviceConfig(device=name)


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in (*LAUNCHED, "LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def launched(monkeypatch):
    def as_by(**environment):
        for name, value in {**LAUNCHED, **environment}.items():
            monkeypatch.setenv(name, value)

    return as_by


@pytest.fixture
def machine(monkeypatch):
    """``machine(cuda=4)``: what torch says is there."""

    def with_devices(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return with_devices


class TestDevice:
    def test_each_has_its_index(self, machine):
        machine(cuda=4)
        found = [str(choose_device(asked(name))) for name in ("auto", "cuda", "cuda:3", "cpu")]
        assert found == ["cuda:0", "cuda:0", "cuda:3", "cpu"]
        machine(mps=True)
        assert [str(choose_device(asked(name))) for name in ("auto", "mps")] == ["mps:0"] * 2
        machine()
        assert str(choose_device(asked("auto"))) == "cpu"

    def test_a_rank_takes_its_own(self, machine, launched):
        machine(cuda=4)
        launched(RANK="7", LOCAL_RANK="3", WORLD_SIZE="8")
        assert [str(choose_device(asked(name))) for name in ("auto", "cuda", "cpu")] == ["cuda:3", "cuda:3", "cpu"]

    def test_accelerates_cpu_is_followed(self, machine, monkeypatch):
        machine(cuda=4)
        monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
        assert str(choose_device(asked("auto"))) == "cpu"
        with pytest.raises(UserError, match=r"accelerate asks for the CPU \(--cpu\), runtime.device=cuda for another"):
            choose_device(asked("cuda"))

    def test_several_processes_on_a_mac_share_its_cpu(self, machine, launched):
        machine(mps=True)
        launched()
        assert str(choose_device(asked("auto"))) == "cpu"
        with pytest.raises(UserError, match=r"runtime.device=mps works in one process, not in 2"):
            choose_device(asked("mps"))

    @pytest.mark.parametrize(
        ("name", "there", "environment", "message"),
        [
            ("cuda:7", 4, {}, r"runtime.device=cuda:7: this machine has 4 CUDA device\(s\), cuda:0 to cuda:3"),
            (
                "cuda:1",
                4,
                LAUNCHED,
                r"cuda:1 is one device for all 2 processes of this launch; set",
            ),
            ("cuda", 1, LAUNCHED, r"process 1 of this machine finds 1 CUDA device\(s\).* start 1 at most"),
            ("cuda", 0, {}, r"runtime.device=cuda is not available here; use runtime.device=auto or cpu \("),
            ("cuda:2", 0, {"CUDA_VISIBLE_DEVICES": ""}, r"cuda:2 is not available here; .*CUDA_VISIBLE_DEVICES hides"),
            ("mps", 0, {}, r"runtime.device=mps is not available here; .*Apple silicon"),
            ("cuda", 2, {"LOCAL_RANK": "two"}, r"LOCAL_RANK: a launcher sets a number here, got 'two'"),
        ],
    )
    def test_one_that_is_not_there(self, machine, monkeypatch, name, there, environment, message):
        machine(cuda=there)
        monkeypatch.setattr(torch.version, "cuda", "13.2")
        monkeypatch.setattr("sys.platform", "linux")
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(UserError, match=message):
            choose_device(asked(name))

    @pytest.mark.parametrize("tf32", [False, True])
    def test_tf32_is_set_for_convolutions_and_products_alike(self, tf32):
        torch.backends.cudnn.allow_tf32 = not tf32
        exact_float32(tf32)
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is tf32

    def test_a_run_is_exact_unless_it_asks(self):
        exact_float32(True)
        choose_device(asked("cpu"))
        assert torch.backends.cuda.matmul.allow_tf32  # nothing of CUDA is touched for the CPU
        choose_device(asked("auto"))
        assert not torch.backends.cudnn.allow_tf32


class TestLaunch:
    """What launchers ask for in the environment."""

    @pytest.mark.parametrize(
        ("variable", "value", "message"),
        [
            (
                "MIXED_PRECISION",
                "bf16",
                r"asks for mixed precision .*=bf16\), .*editor.dtype",
            ),
            ("GRADIENT_ACCUMULATION_STEPS", "4", "asks for gradient accumulation .* trainings follow it"),
            ("DYNAMO_BACKEND", "INDUCTOR", "asks for torch.compile .* set train.compile"),
            ("TORCH_DEVICE", "cuda:1", "asks for a device .* set runtime.device"),
            ("USE_FSDP", "true", "asks for FSDP .* torchrun"),
            ("USE_DEEPSPEED", "true", "asks for DeepSpeed"),
            ("USE_MEGATRON_LM", "true", "asks for Megatron-LM"),
            ("USE_PARALLELISM_CONFIG", "true", "asks for sharded parallelism"),
            ("USE_SAGEMAKER", "true", "asks for SageMaker"),
        ],
    )
    def test_what_is_not_followed_is_refused(self, monkeypatch, variable, value, message):
        monkeypatch.setenv(f"ACCELERATE_{variable}", value)
        with pytest.raises(UserError, match=message):
            check_launch()

    def test_what_asks_for_nothing_is_no_obstacle(self, launched):
        check_launch()
        nothing = {"MIXED_PRECISION": "no", "DYNAMO_BACKEND": "NO", "USE_FSDP": "false"}
        launched(**{f"ACCELERATE_{k}": v for k, v in nothing.items()})
        check_launch()

    def test_several_processes_that_accelerate_does_not_start(self, monkeypatch):
        """What ``accelerate launch --cpu --num_processes 2`` sets, and it starts one."""
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        check_launch()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        with pytest.raises(UserError, match=r"asked for several processes and started one.* torchrun"):
            check_launch()

    def test_a_size_without_the_rest(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(UserError, match=r"WORLD_SIZE=2 asks for several .* RANK, LOCAL_RANK, MASTER_ADDR"):
            processes(torch.device("cpu"))
        monkeypatch.setenv("WORLD_SIZE", "1")
        check_launch()

    def test_processes_that_never_meet(self, monkeypatch):
        def alone(cpu):
            raise torch.distributed.DistStoreError("timed out after 1800 s\nC++ frames")

        monkeypatch.setattr("semfacediff.engine.processes.PartialState", alone)
        with pytest.raises(UserError, match=r"do not find one another \(timed out after 1800 s\); start them all with"):
            processes(torch.device("cpu"))

    def test_a_failure_of_one_process_alone_is_its_own(self, tmp_path):
        state = processes(torch.device("cpu"))
        with pytest.raises(RuntimeError, match="gloo says"), shared_record(state, tmp_path, {}, _Opened):
            raise RuntimeError("gloo says no")


class _Opened:
    """A record that nobody reads."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


# Placements: on devices that this machine need not have.

ELSEWHERE = torch.device("cuda", 1)


@pytest.fixture
def elsewhere(monkeypatch):
    """``with elsewhere():`` tensors and modules have devices, and no contents."""

    def moved(module, device=None, *_, **kwargs):
        if device is None:
            return module
        for part in module.modules():
            for kept in (part._parameters, part._buffers):
                for name, value in kept.items():
                    if value is not None:
                        empty = torch.empty(value.shape, dtype=value.dtype, device=device)
                        kept[name] = torch.nn.Parameter(empty, False) if kept is part._parameters else empty
        return module

    monkeypatch.setattr(torch.nn.Module, "to", moved)  # which would fill real memory
    return lambda: FakeTensorMode(allow_non_fake_inputs=True)


def test_a_parser_computes_where_it_was_put(elsewhere, tiny_checkpoint):
    loaded = load_parser(tiny_checkpoint)
    with elsewhere():
        parser = ModelParser(*loaded, ELSEWHERE)
        logits = parser._computed((torch.rand(2, 3, 64, 64, device=ELSEWHERE) - parser._mean) / parser._std, [])
        assert (logits.device, logits.dtype) == (ELSEWHERE, torch.float32)
        assert parser.label_map(logits, (48, 56)).device == torch.device("cpu")


@pytest.mark.parametrize("protocol", ["thesis", "strict"])
def test_lpips_computes_where_it_was_put(elsewhere, protocol):
    photos = np.zeros((2, 64, 64, 3), np.uint8)
    with elsewhere():
        lpips = LPIPS(protocol, None, "random", ELSEWHERE)
        assert lpips.together
        features = lpips._features(photos)
        means, maps = lpips._means(features, features), lpips._maps(features, features, (64, 64))
    assert (means.device, maps.device, maps.dtype) == (ELSEWHERE, ELSEWHERE, torch.float32)


def test_augmentation_of_the_device_uses_nothing_that_mps_lacks():
    """Fake tensors of MPS refuse nothing, so its types are looked at as they pass."""
    seen = set()

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(result):
                if isinstance(tensor, torch.Tensor) and tensor.dim() >= 3:
                    seen.add(tensor.dtype)
            return result

    rows = torch.tensor([[64, 1.2, 0.8, 1.1, 0.05, 0, 1, 2, 3, 1, 5]] * 2, dtype=torch.float64)
    with Watched():
        ce7454_batch(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.zeros(2, 64, 64).byte(), rows)
    assert torch.float32 in seen
    assert torch.float64 not in seen


# What the sources may not say.

ON_THE_HOST = {
    "data/augment/on_device.py:drawn_row": "rows of a batch; they stay on the host",
    "parsing/any_photo.py:parse_any": "of logits that were brought to the host",
    "tasks/training/losses.py:class_weights": "of counts on the host; returns float32",
    "tasks/parsing/scores.py:pixel_cross_entropy": "the number of pixels, beside a sum on the host",
}
"""Functions that compute in torch's float64, and why no device of a run is concerned."""
OF_ONE_DEVICE = (
    "max_memory_allocated",
    "max_memory_reserved",
    "reset_peak_memory_stats",
    "synchronize",
    "memory_stats",
)
"""Functions of ``torch.cuda`` that mean the calling thread's current device if none is named."""


def trees(*words):
    """(file, its tree) of the sources in which one of ``words`` occurs."""
    for file in sorted(SOURCES.rglob("*.py")):
        text = file.read_text()
        if any(word in text for word in words):
            yield file.relative_to(SOURCES).as_posix(), ast.parse(text)


def functions(tree):
    """(name, node) of every function that is not inside another one."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node)


def doubles(tree):
    """Lines where torch makes float64, unless of what ``.cpu()`` gave just before."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("float64", "double"):
            of_torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
            from_host = isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") == "cpu"
            if (of_torch or node.attr == "double") and not from_host:
                yield node.lineno


def without_index(tree):
    """Lines that place something on CUDA without saying on which device."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, given = node.func.attr, [*node.args[:1], *(k.value for k in node.keywords if k.arg == "device")]
        of_cuda = isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "cuda"
        if name == "cuda" or (of_cuda and name in OF_ONE_DEVICE):
            if not node.args and not node.keywords:
                yield node.lineno
        elif any(isinstance(a, ast.Constant) and a.value in ("cuda", "mps") for a in given):
            placed = (name in ("to", "device") and len(node.args) == 1) or len(given) > len(node.args[:1])
            yield from [node.lineno] * placed


def test_no_float64_on_a_device():
    """MPS has none, and most accelerators are slow with it."""
    found = {
        f"{file}:{name}"
        for file, tree in trees("float64", "double")
        for name, node in functions(tree)
        if list(doubles(node))
    }
    assert found == set(ON_THE_HOST)


def test_no_cuda_device_without_an_index():
    """A pool's thread has a current device of its own: the first one, whatever the process computes on."""
    assert {file: lines for file, tree in trees("cuda", "mps") if (lines := list(without_index(tree)))} == {}


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("x.double()", "doubles"),
        ("x.to(torch.float64)", "doubles"),
        ("x.cpu().double()", None),
        ("np.zeros(3, np.float64)", None),
        ("x.cuda()", "without_index"),
        ("x.to('cuda')", "without_index"),
        ("torch.zeros(3, device='cuda')", "without_index"),
        ("torch.device('cuda')", "without_index"),
        ("torch.device('cuda', 1)", None),
        ("torch.cuda.max_memory_allocated()", "without_index"),
        ("torch.cuda.max_memory_allocated(device)", None),
        ("x.to('cpu')", None),
    ],
)
def test_what_the_lint_finds(line, caught):
    tree = ast.parse(line)
    assert [f.__name__ for f in (doubles, without_index) if list(f(tree))] == ([caught] if caught else [])

"""A trained parser for other machinery: half precision weights, ONNX, a program of ``torch.export``. No TorchScript.

Graphs take what the network takes, normalised float32 ``[N,3,H,W]``, and give logits at that size; the preparation is
on the card.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError

INPUT, OUTPUT = "image", "logits"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What an ONNX file is written and checked with; onnxscript is of torch's exporter."""


def half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with floats as float16 and integers as they are.

    Raises:
        UserError: a value is beyond float16's range (65,504).
    """
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    beyond = [k for k, v in halves.items() if v.is_floating_point() and not v.isfinite().all()]
    if beyond:
        raise UserError(f"export: {len(beyond)} tensors do not fit half precision ({beyond[0]}, ...); use --to onnx")
    return halves


def exported(model: nn.Module, side: int) -> tuple[torch.export.ExportedProgram, bool]:
    """(program, whether it takes every height and width) for batches of any size.

    Args:
        model: in eval mode. side: height and width in px to trace it at, the only ones of a program for one size.

    Raises:
        UserError: torch cannot export it.
    """
    example, any_ = torch.zeros(2, 3, side, side), torch.export.Dim.DYNAMIC
    failure = None
    for sizes in ({2: any_, 3: any_}, {}):
        try:
            with _quiet():
                program = torch.export.export(model, (example,), dynamic_shapes=({0: any_, **sizes},))
                return program.run_decompositions(_ANY_SIZE), bool(sizes)
        except Exception as e:  # of many kinds, among them torch's own, when a size cannot be left open
            failure = e
    reason = str(failure).strip().splitlines()[0][:160]
    raise UserError(f"export: torch.export cannot follow {type(model).__name__} ({reason}); use --to half") from failure


def write_onnx(program: torch.export.ExportedProgram, file: Path, opset: int | None, facts: Mapping[str, str]) -> int:
    """Write an ONNX file with ``facts`` as its metadata; returns the opset used.

    Args:
        opset: version of ONNX's operators; ``None``: torch's choice.

    Raises:
        UserError: packages are missing, or torch cannot write that version.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"--to onnx needs {', '.join(missing)}; install with pip install 'semfacediff[export]'")
    import onnx

    try:
        with _quiet():
            exported = torch.onnx.export(
                program, input_names=[INPUT], output_names=[OUTPUT], opset_version=opset, dynamo=True, verbose=False
            )
        if exported is None:
            raise ValueError("it returned no program")
        made = exported.model_proto
    except Exception as e:
        reason = str(e).strip().splitlines()[0][:160]
        raise UserError(f"--to onnx: torch's exporter failed ({reason}); try another --opset") from e
    (written,) = (o.version for o in made.opset_import if o.domain == "")
    if opset is not None and written != opset:
        raise UserError(f"--opset {opset}: torch could only write operator set {written}; leave it out or take that")
    onnx.helper.set_model_props(made, dict(facts))
    onnx.save(made, file)
    return written


def quantise(source: Path, target: Path) -> None:
    """``target``: the ONNX file ``source`` with 8-bit weights, whose inputs are quantised as they come.

    Depthwise convolutions stay as they are: few weights, and channels of so different a scale that one step for all of
    them costs most of the accuracy.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(source).graph.node
    grouped = [n.name for n in nodes if n.op_type == "Conv" for a in n.attribute if a.name == "group" and a.i > 1]
    with _quiet():
        # onnxruntime's convolution of integers takes unsigned ones alone.
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8, nodes_to_exclude=grouped)


class Program(nn.Module):
    """A program of ``torch.export`` read from its file, in the place of a network."""

    def __init__(self, file: Path):
        super().__init__()
        self._call = torch.export.load(file).module().forward  # no sub-module: it has no eval()

    def forward(self, x: Tensor) -> Tensor:
        return self._call(x.contiguous())


def _shares(length: int, bins: int) -> Tensor:
    """float32 ``[bins, length]``: what each place contributes to the mean of each bin of an adaptive pooling."""
    place, k = torch.arange(length), torch.arange(bins)
    first, end = (k * length) // bins, ((k + 1) * length + bins - 1) // bins
    inside = ((place >= first[:, None]) & (place < end[:, None])).float()
    return inside / inside.sum(1, keepdim=True)


def pooled(x: Tensor, size: list[int]) -> Tensor:
    """``adaptive_avg_pool2d`` as two matrix products, which stay right where height and width are left open.

    ONNX has no such pooling; the exporter writes windows that fit the example's size only.
    """
    return _shares(x.shape[-2], size[0]) @ x @ _shares(x.shape[-1], size[1]).T


_ANY_SIZE = {torch.ops.aten.adaptive_avg_pool2d.default: pooled}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' talk of their own workings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""A parser that onnxruntime computes, from the file that ``semfacediff export`` wrote; for ``parser.backend=onnx``."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.labels import space
from semfacediff.parsing.checkpoint import CARD, ONNX, ParserCard, read_card

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxModel(nn.Module):
    """Stands in the place of a network: normalised float32 ``[N,3,H,W]`` -> logits ``[N,C,H,W]``.

    Computes on the CPU with torch's number of threads; takes tensors from any device, and answers there.
    """

    def __init__(self, file: Path):
        super().__init__()
        self._session = _session(file)
        (self.input,), (self.output,) = self._session.get_inputs(), self._session.get_outputs()

    def forward(self, x: Tensor) -> Tensor:
        (logits,) = self._session.run(None, {self.input.name: x.cpu().contiguous().numpy()})
        return torch.from_numpy(logits).to(x.device)


def _session(file: Path) -> "InferenceSession":
    try:
        import onnxruntime
    except ImportError as e:
        raise UserError(
            "parser.backend=onnx needs the package onnxruntime; install it with pip install 'semfacediff[export]', or "
            "set parser.backend=torch"
        ) from e
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's errors have no base of their own
        reason = str(e).splitlines()[0][:120]
        raise UserError(f"{file}: onnxruntime cannot open it ({reason}); export the parser again") from e


def load_onnx(folder: Path) -> tuple[OnnxModel, ParserCard]:
    """Model and card of an exported parser.

    Raises:
        UserError: no ONNX file there, damaged, or it does not fit the card; or onnxruntime is not installed.
    """
    file = folder / ONNX
    if not file.is_file():
        raise UserError(
            f"parser.backend=onnx: {folder} holds no {ONNX}; make one with: semfacediff export {folder} --to onnx "
            f"--out DIR, and set parser.checkpoint=DIR"
        )
    card = read_card(folder)
    model = OnnxModel(file)
    expected = {1: 3, 2: card.input_size, 3: card.input_size}
    fits = len(model.input.shape) == 4 and all(_is(model.input.shape[axis], n) for axis, n in expected.items())
    if not fits or not _is(model.output.shape[1], space(card.label_space).n):
        raise UserError(
            f"{file}: input {model.input.shape} and output {model.output.shape} do not fit {folder / CARD} (input size "
            f"{card.input_size}, {space(card.label_space).n} classes); export the parser again"
        )
    return model, card


def _is(found: int | str | None, wanted: int) -> bool:
    """Whether an axis of an ONNX shape can have this length; axes of any length have names."""
    return not isinstance(found, int) or found == wanted

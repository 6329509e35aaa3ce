"""A parser that onnxruntime computes, from the file that ``semfacediff export`` wrote; for ``parser.backend=onnx``."""

from pathlib import Path

import torch
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.labels import space
from semfacediff.parsing.checkpoint import CARD, ONNX, ParserCard, read_card
from semfacediff.weight_files import onnx_session


class OnnxModel(nn.Module):
    """Stands in the place of a network: normalised float32 ``[N,3,H,W]`` -> logits ``[N,C,H,W]``.

    Computes on the CPU with torch's number of threads; takes tensors from any device, and answers there.
    """

    def __init__(self, file: Path):
        super().__init__()
        self._session = onnx_session(file, "parser.backend=onnx", "parser.backend=torch", "export the parser again")
        (self.input,), (self.output,) = self._session.get_inputs(), self._session.get_outputs()

    def forward(self, x: Tensor) -> Tensor:
        (logits,) = self._session.run(None, {self.input.name: x.cpu().contiguous().numpy()})
        return torch.from_numpy(logits).to(x.device)


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

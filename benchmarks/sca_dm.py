"""A denoising step of SCA-DM: what depends on mask and tokens computed once, beside every step; in half precision.

    python benchmarks/sca_dm.py [--preset paper] [--threads 2] [--turns 5] [--device cuda] [--halves float16]
        [--compile]

Batch 1, random weights (time does not depend on them), the label map of a drawn face. The predictions are compared
first.
"""

import argparse
import copy
from collections.abc import Callable, Iterator

import torch
from comparing import Comparison, in_turns, shown
from torch import Tensor

from semfacediff.data.toy import ToyFaces
from semfacediff.synthesis import PRESETS, UNet, one_hot

WANTED = 1.2


def random_unet(preset: str) -> UNet:
    """A denoiser of a preset's size; no layer is left at its initial zeros."""
    o = PRESETS[preset]
    unet = UNet(
        channels=o.unet_channels,
        multipliers=o.unet_multipliers,
        layers=o.unet_layers,
        attention_factors=o.attention_factors,
        head_width=o.head_width,
        token_width=o.style_width,
    )
    for p in unet.parameters():
        if not p.any():
            torch.nn.init.normal_(p.data, std=0.02)
    return unet.eval()


@torch.inference_mode()
def comparisons(
    preset: str = "paper", turns: int = 5, device: str = "cpu", halves: tuple[str, ...] = ("bfloat16",), compiled=False
) -> Iterator[Comparison]:
    """One step of the denoiser of a preset's size: the condition made once, then also in half precision, compiled."""
    torch.manual_seed(0)
    o, unet = PRESETS[preset], random_unet(preset).to(device)
    mask = one_hot(ToyFaces(1, o.image_size)[0].labels[None], o.classes)
    x, t, tokens = torch.randn(1, *o.latent_shape), torch.tensor([500]), torch.randn(1, o.classes, o.style_width).tanh()
    given = [part.to(device) for part in (x, t, tokens, mask)]
    command = f"python benchmarks/sca_dm.py --preset {preset} --turns {turns} --device {device}"
    place = f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name()

    def against(title: str, plain: Callable[[], Tensor], ours: Callable[[], Tensor], wanted: float | None):
        apart = (plain() - ours()).abs().max().item()
        note = f"{place}; predictions differ by {apart:.0e} at most"
        taken = in_turns(lambda: finished(plain()), lambda: finished(ours()), turns)
        return taken.compared(f"a step of SCA-DM, {preset}, {title}", 1, "ms a step", wanted, command, note)

    once = step_of(unet, *given)
    yield against("condition once", lambda: unet(*given), once, WANTED)
    for name in halves:
        half = copy.deepcopy(unet).to(getattr(torch, name))
        yield against(f"{name} beside float32", once, step_of(half, *given), None)
        if compiled:
            yield against(f"{name} compiled beside float32", once, step_of(half, *given, compiled=True), None)
    if compiled:
        yield against("compiled", once, step_of(unet, *given, compiled=True), None)


def step_of(unet: UNet, x: Tensor, t: Tensor, tokens: Tensor, mask: Tensor, compiled: bool = False):
    """A step that reads a condition made before, in the network's precision; its prediction is float32."""
    kind = next(unet.parameters()).dtype
    condition = unet.condition(tokens.to(kind), mask.to(kind), x.shape[-2:])
    denoise = torch.compile(unet.denoise) if compiled else unet.denoise
    return lambda: denoise(x.to(kind), t, condition).float()


def finished(prediction: Tensor) -> None:
    """An accelerator works on when the call has returned."""
    if prediction.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--preset", choices=tuple(PRESETS), default="paper")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--halves", nargs="*", choices=("bfloat16", "float16"), default=["bfloat16"])
    arguments.add_argument("--compile", action="store_true", help="each compiled too; a minute or two each")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    for c in shown(comparisons(options.preset, options.turns, options.device, tuple(options.halves), options.compile)):
        print(c.note)

"""A denoising step of SCA-DM on the CPU: what depends on mask and tokens computed once, beside every step.

    python benchmarks/sca_dm.py [--preset paper] [--threads 2] [--turns 5]

Batch 1, random weights (time does not depend on them), the label map of a drawn face. The predictions are compared
first.
"""

import argparse
from collections.abc import Iterator

import torch
from comparing import Comparison, in_turns, shown

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
def comparisons(preset: str = "paper", turns: int = 5) -> Iterator[Comparison]:
    """One step of the denoiser of a preset's size."""
    torch.manual_seed(0)
    o, unet = PRESETS[preset], random_unet(preset)
    mask = one_hot(ToyFaces(1, o.image_size)[0].labels[None], o.classes)
    x, t, tokens = torch.randn(1, *o.latent_shape), torch.tensor([500]), torch.randn(1, o.classes, o.style_width).tanh()
    condition = unet.condition(tokens, mask, o.latent_shape[1:])
    every, once = (lambda: unet(x, t, tokens, mask)), (lambda: unet.denoise(x, t, condition))
    apart = (every() - once()).abs().max().item()
    command = f"python benchmarks/sca_dm.py --preset {preset} --turns {turns}"
    note = f"{torch.get_num_threads()} threads; predictions differ by {apart:.0e} at most"
    taken = in_turns(every, once, turns)
    yield taken.compared(f"a step of SCA-DM, {preset}, condition once", 1, "ms a step", WANTED, command, note)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--preset", choices=tuple(PRESETS), default="paper")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--turns", type=int, default=5)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    for c in shown(comparisons(options.preset, options.turns)):
        print(c.note)

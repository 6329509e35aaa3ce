"""How much of an accelerator's memory SDXL inpainting needs, counted without one.

    python benchmarks/sdxl_memory.py [--size 1024] [--batch 1]

Networks of SDXL's public configuration work on fake tensors, which have shapes and no contents: every storage is
counted from its first operation until nothing refers to it. Prints GiB of weights and of what is alive at once beside
them, for each part and profile. Left out is what only the device knows: its context, workspaces of convolutions, and
fragments.
"""

import argparse
import weakref
from collections.abc import Callable, Iterable

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semfacediff.commands.gpu_check.sdxl import made_on, sdxl_text_encoders, sdxl_unet, sdxl_vae
from semfacediff.editing.diffusion.memory import _tile

CELL = 8
TOKENS, TEXT_WIDTH, POOLED_WIDTH = 77, 2048, 1280


class LiveBytes(TorchDispatchMode):
    """Bytes of all storages that operations have made and something still refers to; ``peak`` is the most.

    Args:
        weights: are not counted, however often they are viewed.
    """

    def __init__(self, weights: Iterable[torch.Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._known = {w.untyped_storage()._cdata for w in weights}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self._known.discard(key)
            self.now -= size

        weakref.finalize(storage, gone)


def weights_gib(network: torch.nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in network.parameters()) / 2**30


def peak_gib(network: torch.nn.Module, *runs: Callable[[], object]) -> float:
    peaks = []
    for run in runs:
        with torch.no_grad(), LiveBytes(network.parameters()) as live:
            run()
        peaks.append(live.peak)
    return max(peaks) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    size, batch = arguments.size, arguments.batch
    side, rows = size // CELL, 2 * batch  # with and against the prompt
    with FakeTensorMode():
        with made_on(torch.device("cpu"), torch.float16):
            unet, encoders = sdxl_unet(), sdxl_text_encoders()
        vae = sdxl_vae()  # float32, as the editor runs it
        half = {"dtype": torch.float16}
        noise = torch.empty(rows, 9, side, side, **half)
        text = torch.empty(rows, TOKENS, TEXT_WIDTH, **half)
        added = {"text_embeds": torch.empty(rows, POOLED_WIDTH, **half), "time_ids": torch.empty(rows, 6, **half)}
        time = torch.empty(rows, dtype=torch.int64)
        photo, latents = torch.empty(1, 3, size, size), torch.empty(1, 4, side, side)
        coded = (lambda: vae.encode(photo)), (lambda: vae.decode(latents))
        found = {
            "UNet": (weights_gib(unet), peak_gib(unet, lambda: unet(noise, time, text, added_cond_kwargs=added))),
            "text encoders": (sum(map(weights_gib, encoders)), 0.0),
            "VAE, whole": (weights_gib(vae), peak_gib(vae, *coded)),
        }
        _tile(vae)
        found["VAE, tiles"] = weights_gib(vae), peak_gib(vae, *coded)
    for name, (weights, alive) in found.items():
        print(f"{name:<14} weights {weights:6.2f} GiB, beside them {alive:6.2f} GiB")
    together = sum(found[part][0] for part in ("UNet", "text encoders", "VAE, whole"))
    low = max(sum(found[part]) for part in ("UNet", "VAE, tiles"))
    print(f"all parts on the device, VAE whole: {together + max(alive for _, alive in found.values()):.2f} GiB")
    print(f"low_memory (a part at a time, VAE in tiles): {low:.2f} GiB")


if __name__ == "__main__":
    main()

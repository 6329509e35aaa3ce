"""Half-precision VAEs overflow: the photo turns black without a word. Here they run in float32, or are watched."""

from typing import Any

import torch
from torch import Tensor


class VaeGuard:
    """Takes over the precision of a pipeline's VAE; a pipeline need not know.

    ``watch=False``: the VAE works in float32, whatever the pipeline's precision. ``watch=True``: it works in its own;
    rows that come out with values that are no numbers are made again in float32 and named in :attr:`retried`.

    Attributes:
        retried: rows of the batch that :meth:`begin` announced.
    """

    def __init__(self, vae: Any, watch: bool):
        self._vae, self._watch = vae, watch
        self._dtype = vae.dtype if watch else torch.float32
        self._inner = {"encode": vae.encode, "decode": vae.decode}
        vae.to(self._dtype)
        if "force_upcast" in vae.config:
            vae.register_to_config(force_upcast=False)  # or the pipeline would cast it to and fro
        vae.encode, vae.decode = self._encode, self._decode
        self.begin(1)

    def begin(self, batch: int) -> None:
        """A batch of ``batch`` photos comes next."""
        self._batch, self._encoded = batch, 0
        self.retried: set[int] = set()

    def _encode(self, x: Tensor, *args: object, **options: object) -> Any:
        first = self._encoded  # photos come one by one, each with its own generator
        self._encoded += len(x)
        output = self._run("encode", x, args, options)
        bad = not _numbers(output)
        if bad and self._retries:
            output = self._in_float32("encode", x, args, options)
            self.retried |= {(first + i) % self._batch for i in range(len(x))}
        return _as(output, x.dtype)

    def _decode(self, z: Tensor, *args: object, **options: object) -> Any:
        output = self._run("decode", z, args, options)
        images = output[0] if isinstance(output, tuple) else output.sample
        bad = [i for i, image in enumerate(images) if not torch.isfinite(image).all()]
        if bad and self._retries:
            images = images.float()
            for i in bad:
                again = self._in_float32("decode", z[i : i + 1], args, options)
                images[i] = (again[0] if isinstance(again, tuple) else again.sample)[0]
            self.retried |= set(bad)
            output = (images,) if isinstance(output, tuple) else type(output)(sample=images)
        return output

    @property
    def _retries(self) -> bool:
        return self._watch and self._dtype != torch.float32

    def _run(self, what: str, x: Tensor, args: tuple, options: dict) -> Any:
        if self._vae.dtype != self._dtype:  # a pipeline may have cast it
            self._vae.to(self._dtype)
        return self._inner[what](x.to(self._dtype), *args, **options)

    def _in_float32(self, what: str, x: Tensor, args: tuple, options: dict) -> Any:
        self._vae.to(torch.float32)
        try:
            return self._inner[what](x.float(), *args, **options)
        finally:
            self._vae.to(self._dtype)


def _numbers(output: Any) -> bool:
    return bool(torch.isfinite(output.latent_dist.parameters).all()) if hasattr(output, "latent_dist") else True


def _as(output: Any, dtype: torch.dtype) -> Any:
    """An encoder's output with its distribution in the precision that the pipeline gave its photo in."""
    if hasattr(output, "latent_dist"):
        given = output.latent_dist
        output.latent_dist = type(given)(given.parameters.to(dtype))
    return output

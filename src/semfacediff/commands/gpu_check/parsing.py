"""Training a parser: a step compared with transformers' own, and the speed of the loader."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from semfacediff.commands.gpu_check.rows import Row, Sizes, judged, timed
from semfacediff.data.batches import TrainingView, loader
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.toy import ToyFaces
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import build_parser
from semfacediff.tasks.training.step import GradientStep, new_accelerator

PRECISION, DTYPE = "bfloat16", torch.bfloat16
_CLIP = 1.0


def a_batch(sizes: Sizes, on: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised photos float32 ``[N, 3, S, S]`` and labels int64 ``[N, S, S]`` of drawn faces."""
    faces = [ToyFaces(sizes.parser_batch, sizes.parser_px)[i] for i in range(sizes.parser_batch)]
    photos = torch.stack([torch.from_numpy(f.photo.copy()) for f in faces]).permute(0, 3, 1, 2).float() / 127.5 - 1
    return photos.to(on), torch.stack([torch.from_numpy(f.label_map.copy()).long() for f in faces]).to(on)


def our_step(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], float]:
    """A call trains on the batch and gives its loss."""
    step = GradientStep(new_accelerator(x.device, PRECISION), net, _CLIP)
    optimiser = torch.optim.AdamW(net.parameters(), 6e-5)

    def once() -> float:
        with step.autocast():
            logits = net(x)
        loss = step.add(F.cross_entropy(logits.float(), y))
        step.update(optimiser)
        return loss.item()

    return once


def plain_step(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], float]:
    optimiser = torch.optim.AdamW(net.parameters(), 6e-5)

    def once() -> float:
        with torch.autocast(x.device.type, DTYPE):
            logits = F.interpolate(net(pixel_values=x).logits, size=y.shape[-2:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits.float(), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
        optimiser.step()
        return loss.item()

    return once


def plain_segformer(ours: nn.Module, size: str) -> nn.Module:
    """transformers' own module with the weights of ``ours``."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    from semfacediff.parsing.segformer_folder import SIZES

    config = SegformerConfig(num_labels=CELEBAMASK.n, **SIZES[size].config())
    plain = SegformerForSemanticSegmentation(config)
    for part in ("segformer", "decode_head"):
        for a, b in zip(getattr(plain, part).parameters(), getattr(ours, part).parameters(), strict=True):
            a.data.copy_(b.data)
    return plain


def training(sizes: Sizes, on: torch.device, _folder: Path) -> Iterator[Row]:
    torch.manual_seed(0)
    ours = build_parser(sizes.parser, classes=CELEBAMASK.n)
    plain = plain_segformer(ours, sizes.parser.removeprefix("segformer_")).to(on)
    ours.to(on).to(memory_format=torch.channels_last)
    x, y = a_batch(sizes, on)
    faults = _same_logits(ours.eval(), plain.eval(), x[:1])
    once = our_step(ours.train(), x.contiguous(memory_format=torch.channels_last), y)
    first = once()
    taken = timed(once, on, sizes.steps)
    if not once() < first:
        faults.append(f"the loss did not fall within {sizes.steps + 3} steps on the same batch")
    beside = timed(plain_step(plain.train(), x, y), on, sizes.steps)
    name = f"training step, {sizes.parser}, {sizes.parser_px} px, batch {sizes.parser_batch}, {PRECISION}"
    yield judged(name, taken, beside, sizes.parser_batch, faults, 0.8 if sizes.bounded else None)


@torch.inference_mode()
def _same_logits(ours: nn.Module, plain: nn.Module, x: Tensor) -> list[str]:
    """Both networks share weights, so they differ only by float32 rounding."""
    expected = F.interpolate(plain(pixel_values=x).logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
    apart = (ours(x) - expected).abs().max().item() / expected.std().item()
    return [] if apart < 1e-2 else [f"logits differ from transformers' by {apart:.1e} of their standard deviation"]


def loading(sizes: Sizes, on: torch.device, _folder: Path) -> Iterator[Row]:
    """Photos a second from JPEG and PNG files to the device, with as many workers as a training takes."""
    from semfacediff.config.run import enough_workers

    n = sizes.loaded
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for part in ("images", "masks"):
            (root / part).mkdir()
        drawn = [ToyFaces(4, sizes.parser_px)[i] for i in range(4)]
        for i in range(n):
            Image.fromarray(drawn[i % 4].photo).save(root / "images" / f"{i:05d}.jpg", quality=90)
            Image.fromarray(drawn[i % 4].label_map).save(root / "masks" / f"{i:05d}.png")
        faces = FileFaces(index_folder(root, "images", "masks", True).entries, CELEBAMASK)
        view = TrainingView(faces, sizes.parser_px, "standard", seed=0)

        def epoch(workers: int) -> Callable[[], None]:
            def once() -> None:
                batches = loader(view, sizes.parser_batch, 0, workers=workers, pinned=on.type == "cuda")
                for _ in view.placed(batches, on):
                    pass

            return once

        enough = enough_workers("auto")
        workers = enough if isinstance(enough, int) else 0
        ours, plain = timed(epoch(workers), on), timed(epoch(0), on)
    name = f"loading, {sizes.parser_px} px, {workers} worker(s) against none"
    yield judged(name, ours, plain, n, [], None)

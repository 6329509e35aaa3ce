"""SDXL inpainting at its own size: three memory profiles compared with plain diffusers.

The pipeline is built from the public configuration with random weights in float16 (time and memory do not depend on
what the weights are), saved once (7 GB) and opened as real weights would be. The plain way is diffusers' pipeline with
its defaults, one photo at a time.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from semfacediff import config
from semfacediff.commands.gpu_check.rows import Row, Sizes, Taken, judged, timed
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.base import EditRequest
from semfacediff.editing.diffusion import InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline
from semfacediff.editing.diffusion.pipeline import chosen_dtype
from semfacediff.editing.diffusion.tiny import clip_tokenizer, make_tiny, publish_tokenizers, sdxl_scheduler
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.regions import RegionRule, region_masks
from semfacediff.types import to_tensor, to_uint8

PROFILES = {"low_memory": None, "balanced": 0.8, "fast": 0.8}
"""Runtime profile -> minimum ratio to plain diffusers; the first one saves memory, not time."""
SMALL_GIB = 8
"""Memory limit of ``runtime=low_memory``."""
RULE = RegionRule(dilate_px=3)


@contextlib.contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules built in the block are on ``device`` with ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def sdxl_unet() -> torch.nn.Module:
    """SDXL inpainting's, of 2.6 billion parameters."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=128,
        in_channels=9,
        out_channels=4,
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def sdxl_vae() -> torch.nn.Module:
    """SDXL's."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=1024,
        scaling_factor=0.13025,
    )


def sdxl_text_encoders() -> list[torch.nn.Module]:
    """CLIP's and OpenCLIP's."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def text(hidden_size: int, layers: int, heads: int, act: str) -> CLIPTextConfig:
        return CLIPTextConfig(
            hidden_size=hidden_size,
            intermediate_size=4 * hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            projection_dim=hidden_size,
            hidden_act=act,
            vocab_size=49408,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )

    return [
        CLIPTextModel(text(768, 12, 12, "quick_gelu")),
        CLIPTextModelWithProjection(text(1280, 32, 20, "gelu")),
    ]


def make_sdxl(folder: Path, device: torch.device) -> None:
    """SDXL inpainting as published, with random weights, float16."""
    from diffusers import StableDiffusionXLInpaintPipeline

    torch.manual_seed(0)
    with made_on(device, torch.float16):
        unet, vae, encoders = sdxl_unet(), sdxl_vae(), sdxl_text_encoders()
    StableDiffusionXLInpaintPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=clip_tokenizer("<|endoftext|>"),
        tokenizer_2=clip_tokenizer("!"),
        unet=unet,
        scheduler=sdxl_scheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    publish_tokenizers(folder)


def requests(n: int, size: int) -> list[EditRequest]:
    """Requests to repaint the hair of drawn faces, each with its own prompt."""
    faces = ToyFaces(n, size)
    made = []
    for i in range(n):
        sample = faces[i]
        masks = region_masks(torch.from_numpy(sample.labels).long(), "hair", CELEBAMASK, RULE)
        words = f"natural brown hair, smooth and shiny, number {i}"
        made.append(EditRequest(sample.id, "hair", to_tensor(sample.photo), masks, words, "blurry, disfigured", i))
    return made


def edits(sizes: Sizes, on: torch.device, folder: Path) -> Iterator[Row]:
    """Rows of the profiles; plain diffusers is timed first."""
    files = folder / sizes.sdxl
    if not (files / "model_index.json").exists():
        make_sdxl(files, on) if sizes.bounded else make_tiny(folder)
        _forget(on)
    options = InpaintOptions(steps=sizes.sdxl_steps, native_size=sizes.sdxl_px)
    photos = requests(sizes.sdxl_photos, sizes.sdxl_px)
    plain = _plain(files, options, photos, on)
    _forget(on)
    for name, least in PROFILES.items():
        yield _with(name, files, options, photos, on, plain, least if sizes.bounded else None)
        _forget(on)


def _plain(files: Path, options: InpaintOptions, photos: list[EditRequest], on: torch.device) -> Taken:
    from diffusers import StableDiffusionXLInpaintPipeline

    pipe = StableDiffusionXLInpaintPipeline.from_pretrained(files, torch_dtype=chosen_dtype("auto", on)).to(on)
    pipe.set_progress_bar_config(disable=True)

    def one(request: EditRequest) -> object:
        mask = Image.fromarray(np.rint(request.masks.generation[0].numpy() * 255).astype(np.uint8))
        return pipe(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            image=Image.fromarray(to_uint8(request.photo)),
            mask_image=mask,
            height=options.native_size,
            width=options.native_size,
            strength=options.strength,
            guidance_scale=options.guidance,
            num_inference_steps=options.steps,
            generator=torch.Generator().manual_seed(request.seed),
        )

    return _timed(lambda: [one(request) for request in photos], lambda: one(photos[0]), on)


def _timed(whole: Callable[[], object], warm_up: Callable[[], object], on: torch.device) -> Taken:
    """Time one call of ``whole`` after a first one that loads and compiles."""
    calls = iter([warm_up, whole])
    return timed(lambda: next(calls)(), on)


def _with(
    name: str,
    files: Path,
    options: InpaintOptions,
    photos: list[EditRequest],
    on: torch.device,
    plain: Taken,
    least: float | None,
) -> Row:
    words = [f"runtime={name}", "editor=sdxl_inpaint", "parser=ground_truth"]
    runtime = config.typed(composed("evaluate", words, config.repository()), config.EditingEvaluation).runtime
    batches = [photos[i : i + runtime.batch_size] for i in range(0, len(photos), runtime.batch_size)]
    found = find_pipeline("sdxl_inpaint", str(files), None, download=False)
    editor = InpaintEditor("sdxl_inpaint", found, options, on, MemoryProfile(**runtime.diffusion.model_dump()))
    made: list[torch.Tensor] = []
    taken = _timed(
        lambda: made.extend(edit for batch in batches for edit in editor.edit(batch)),
        lambda: editor.edit(batches[0]),
        on,
    )
    notes = sorted({note for request in batches[-1] if (note := editor.note(request)) is not None})
    faults = [] if all(torch.isfinite(edit).all() for edit in made) else ["an edit is not finite"]
    if len(made) != len(photos) or any(torch.equal(e, r.photo) for e, r in zip(made, photos, strict=False)):
        faults.append("a photo was not edited")
    if name == "low_memory" and on.type == "cuda" and taken.peak_mib > SMALL_GIB * 1024:
        faults.append(f"expected at most {SMALL_GIB} GiB, took {taken.peak_mib / 1024:.1f}")
    title = f"SDXL inpainting, {options.native_size} px, {options.steps} steps, runtime={name}"
    note = "; ".join([f"batch {runtime.batch_size}, plain diffusers {plain.peak_mib:.0f} MiB", *notes])
    return judged(title, taken, plain, len(photos), faults, least, note)


def _forget(on: torch.device) -> None:
    """Free the memory for the next measurement."""
    gc.collect()
    if on.type == "cuda":
        torch.cuda.empty_cache()
        torch._dynamo.reset()

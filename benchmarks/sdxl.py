"""Throughput and peak memory of the runtime profiles with SDXL inpainting, against the plain way, in one run.

    python benchmarks/sdxl.py --folder DIR [--photos 16] [--steps 50] [--profiles plain low_memory balanced fast]
    python benchmarks/sdxl.py --folder DIR --toy          # rehearsal with tiny pipelines, on any machine

SDXL is built from its public configuration with random weights in float16 (time and memory do not depend on what the
weights are), saved into DIR (7 GB; kept for the next time) and opened as real weights would be. The plain way is one
photo at a time, attention slicing, eager. A profile's first batch, in which its denoiser is compiled, is not timed.

Prints a table and writes DIR/sdxl.json: photos a second, seconds a photo, peak memory in MiB (of the accelerator,
allocated and reserved; on the CPU the process's, which never falls), and what the editor noted.
"""

import argparse
import contextlib
import gc
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from semfacediff import config
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.base import EditRequest
from semfacediff.editing.diffusion import InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline
from semfacediff.editing.diffusion.tiny import SIZE, clip_tokenizer, make_tiny, publish_tokenizers, sdxl_scheduler
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.records.environment import hardware, package_versions
from semfacediff.regions import RegionRule, region_masks
from semfacediff.types import to_tensor

PROFILES = ("plain", "low_memory", "balanced", "fast")
RULE = RegionRule(dilate_px=3)


@contextlib.contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """What is built in the block lies on ``device`` in ``dtype``."""
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
    """Drawn faces whose hair is to be repainted; every one has its own prompt."""
    faces = ToyFaces(n, size)
    made = []
    for i in range(n):
        sample = faces[i]
        masks = region_masks(torch.from_numpy(sample.labels).long(), "hair", CELEBAMASK, RULE)
        words = f"natural brown hair, smooth and shiny, number {i}"
        made.append(EditRequest(sample.id, "hair", to_tensor(sample.photo), masks, words, "blurry, disfigured", i))
    return made


def profile(name: str) -> tuple[MemoryProfile, int]:
    """(switches, batch size) of ``conf/runtime/<name>.yaml``, or of the plain way."""
    if name == "plain":
        return MemoryProfile(attention_slicing=True), 1
    words = [f"runtime={name}", "editor=sdxl_inpaint", "parser=ground_truth"]
    runtime = config.typed(composed("evaluate", words, config.repository()), config.EditingEvaluation).runtime
    return MemoryProfile(**runtime.diffusion.model_dump()), runtime.batch_size


def measured(name: str, folder: Path, options: InpaintOptions, photos: list[EditRequest], device: torch.device) -> dict:
    """One profile: opened, warmed with a batch, then timed on all photos."""
    memory, batch = profile(name)
    batches = [photos[i : i + batch] for i in range(0, len(photos), batch)]
    files = find_pipeline("sdxl_inpaint", str(folder), None, download=False)
    editor = InpaintEditor("sdxl_inpaint", files, options, device, memory)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    editor.edit(batches[0])
    first_s = time.perf_counter() - start
    start = time.perf_counter()
    notes = set()
    for group in batches:
        editor.edit(group)
        notes |= {editor.note(request) for request in group} - {None}
    seconds = time.perf_counter() - start
    del editor
    gc.collect()
    facts = {"profile": name, "batch": batch, "first_batch_s": first_s, "photos_per_s": len(photos) / seconds}
    return facts | {"s_per_photo": seconds / len(photos), **peaks(device), "notes": sorted(notes)}


def peaks(device: torch.device) -> dict[str, float]:
    """MiB; hands the accelerator's cached memory back for the next profile."""
    if device.type != "cuda":
        return {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "reserved_mib": 0.0}
    found = {
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
        "reserved_mib": torch.cuda.max_memory_reserved() / 2**20,
    }
    torch.cuda.empty_cache()
    torch._dynamo.reset()
    return found


def table(rows: list[dict]) -> str:
    """Markdown; speed relative to the first row."""
    lines = [
        "| profile | batch | photos/s | times | s/photo | peak MiB | reserved MiB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for r in rows:
        times = r["photos_per_s"] / rows[0]["photos_per_s"]
        lines.append(
            f"| {r['profile']} | {r['batch']} | {r['photos_per_s']:.3f} | {times:.2f} | {r['s_per_photo']:.2f} | "
            f"{r['peak_mib']:.0f} | {r['reserved_mib']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--photos", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=PROFILES)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = arguments.folder / ("sdxl_inpaint" if arguments.toy else "sdxl_random")
    if not (folder / "model_index.json").exists():
        if arguments.toy:
            make_tiny(arguments.folder)
        else:
            make_sdxl(folder, device)
            gc.collect()
    size = SIZE if arguments.toy else 1024
    options, photos = InpaintOptions(steps=arguments.steps, native_size=size), requests(arguments.photos, size)
    rows = []
    for name in arguments.profiles:
        rows.append(measured(name, folder, options, photos, device))
        print(json.dumps(rows[-1]), flush=True)
    facts = {"size": size, "steps": arguments.steps, "photos": arguments.photos, "toy": arguments.toy}
    record = facts | {"hardware": hardware(), "packages": package_versions(), "profiles": rows}
    (arguments.folder / "sdxl.json").write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()

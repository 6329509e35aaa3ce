"""Pipelines like the public ones, but tiny and with random weights: the whole chain without a download.

They are saved as the public ones are and opened by the same code. Their edits are noise, and always the same.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch

from semfacediff.editing.diffusion.weights import TWIN_MARK
from semfacediff.errors import UserError

SIZE = 64
"""``editor.native_size`` that suits them; their latents have half the photo's side."""
VOCABULARY = 49408
_WIDTH = 32
_CLIP_MERGES = VOCABULARY - 256 - 256 - 2


def make_tiny(folder: Path, seed: int = 0) -> list[Path]:
    """Write the twins, each named after its editor, so that ``weights.root=FOLDER`` finds them; about 80 MB.

    ``sdxl_inpaint`` has a UNet of 9 channels (noise, mask, masked photo) like the public model, ``inpaint`` is SDXL for
    making pictures from text, with 4 channels, ``sd_inpaint`` is Stable Diffusion 1 with 9, ``instruct`` is
    InstructPix2Pix.

    Raises:
        UserError: ``folder`` holds something else already.
    """
    twins = {"sdxl_inpaint": lambda: _sdxl(9), "inpaint": lambda: _sdxl(4), "sd_inpaint": _sd, "instruct": _pix2pix}
    for name in twins:
        if (folder / name).exists() and not (folder / name / TWIN_MARK).is_file():
            raise UserError(f"{folder / name} exists and is no tiny pipeline; name another folder")
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    for name, make in twins.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            make().save_pretrained(folder / name)
        publish_tokenizers(folder / name)
        mark = {"what": "random weights, for tests; edits made with them are comparable with nothing", "seed": seed}
        (folder / name / TWIN_MARK).write_text(json.dumps(mark, indent=1) + "\n")
    return [folder / name for name in twins]


def _sdxl(channels: int) -> Any:
    from diffusers import StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
    from transformers import CLIPTextModelWithProjection

    kind = StableDiffusionXLPipeline if channels == 4 else StableDiffusionXLInpaintPipeline
    unet = _unet(
        channels,
        cross_attention_dim=2 * _WIDTH,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
    )
    return kind(
        vae=_vae(0.13025, force_upcast=True),
        text_encoder=_text_encoder(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=clip_tokenizer("<|endoftext|>"),
        tokenizer_2=clip_tokenizer("!"),
        unet=unet,
        scheduler=sdxl_scheduler(),
        add_watermarker=False,
    )


def _sd() -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    return _of_sd(StableDiffusionInpaintPipeline, 9)


def _pix2pix() -> Any:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    return _of_sd(StableDiffusionInstructPix2PixPipeline, 8)


def _of_sd(kind: Any, channels: int) -> Any:
    return kind(
        vae=_vae(0.18215, force_upcast=False),
        text_encoder=_text_encoder(),
        tokenizer=clip_tokenizer("<|endoftext|>"),
        unet=_unet(channels, cross_attention_dim=_WIDTH),
        scheduler=sdxl_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _unet(channels: int, **options: object) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=SIZE // 2,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        **options,
    )


def _vae(scaling_factor: float, force_upcast: bool) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[32, 64],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        sample_size=SIZE,
        scaling_factor=scaling_factor,
        force_upcast=force_upcast,
    )


def sdxl_scheduler() -> Any:
    """The noise schedule of Stable Diffusion and SDXL, as their checkpoints say it."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )


def _text_encoder() -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel(_text_config())


def _text_config() -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=1,
        vocab_size=VOCABULARY,
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH,
        num_attention_heads=4,
        num_hidden_layers=3,
        hidden_act="gelu",
        projection_dim=_WIDTH,
    )


@cache
def _vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's own, from the file that open_clip ships: token -> id, and the merges in their order."""
    from open_clip.tokenizer import bytes_to_unicode, default_bpe

    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[1 : _CLIP_MERGES + 1]
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{x}</w>" for x in letters), *(m.replace(" ", "") for m in merges)]
    return {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}, merges


def clip_tokenizer(pad: str) -> Any:
    """CLIP's tokenizer of 49,408 tokens, padded with ``pad``."""
    from transformers import CLIPTokenizer

    vocabulary, merges = _vocabulary()
    # Other spellings of these arguments are accepted and make a tokenizer of two words.
    made = CLIPTokenizer(vocab=vocabulary, merges=[tuple(m.split()) for m in merges], pad_token=pad)
    made.model_max_length = 77
    if len(made) != VOCABULARY:
        raise RuntimeError(f"expected a vocabulary of {VOCABULARY}, this transformers made one of {len(made)}")
    return made


def publish_tokenizers(folder: Path) -> None:
    """In the files that the public pipelines have, instead of the one that this transformers writes."""
    vocabulary, merges = _vocabulary()
    for part in sorted(folder.glob("tokenizer*")):
        (part / "tokenizer.json").unlink()
        (part / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
        (part / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")

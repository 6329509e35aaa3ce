"""Tiny pipelines of FLUX and Qwen-Image with random weights, saved as the public ones are."""

from pathlib import Path
from typing import Any

import torch

from semfacediff.editing.diffusion import tiny

_SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def save(folder: Path, make) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make().save_pretrained(folder)
    return folder


def flux_fill() -> Any:
    from diffusers import FluxFillPipeline

    # Noise and masked photo in 2 x 2 latents of 2 channels, and the mask in 4 x 4 pixels.
    return FluxFillPipeline(**_flux(in_channels=8 + 8 + 16, out_channels=8))


def flux_kontext() -> Any:
    from diffusers import FluxKontextPipeline

    return FluxKontextPipeline(**_flux(in_channels=8))


def qwen_edit_inpaint() -> Any:
    from diffusers import QwenImageEditInpaintPipeline

    return QwenImageEditInpaintPipeline(**_qwen())


def qwen_edit() -> Any:
    from diffusers import QwenImageEditPipeline

    return QwenImageEditPipeline(**_qwen())


def _flux(**channels: int) -> dict[str, Any]:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel

    return {
        "transformer": FluxTransformer2DModel(
            patch_size=1,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
            **channels,
        ),
        "vae": AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=2,
            norm_num_groups=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5035,
        ),
        "text_encoder": CLIPTextModel(tiny._text_config()),
        "tokenizer": tiny.clip_tokenizer("<|endoftext|>"),
        "text_encoder_2": T5EncoderModel(
            T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
        ),
        "tokenizer_2": _t5_tokenizer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def _t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    letters = [chr(i) for i in range(32, 127) if chr(i) != "▁"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in letters)]
    made = T5TokenizerFast(vocab=vocabulary, extra_ids=0)
    made.model_max_length = 512
    return made


def _qwen() -> dict[str, Any]:
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImageTransformer2DModel
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _qwen_tokenizer()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{text}|>")
        for name, text in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6}
    text = _SIZES | {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "rope_parameters": rope}
    text |= dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.convert_tokens_to_ids("<|im_end|>"))
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))
    seen = Qwen2VLImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 4 * 28 * 28})
    return {
        "transformer": QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "text_encoder": model,
        "tokenizer": tokenizer,
        "processor": Qwen2VLProcessor(seen, tokenizer, Qwen2VLVideoProcessor()),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def _qwen_tokenizer() -> Any:
    from open_clip.tokenizer import bytes_to_unicode
    from transformers import Qwen2Tokenizer

    marks = "endoftext im_start im_end vision_start vision_end vision_pad image_pad video_pad".split()
    made = Qwen2Tokenizer(vocab={c: i for i, c in enumerate(bytes_to_unicode().values())}, merges=[])
    made.add_special_tokens({"additional_special_tokens": [f"<|{mark}|>" for mark in marks]})
    made.model_max_length = 1024
    return made

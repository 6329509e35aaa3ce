"""How released weights of SCA-DM enter: published hyper-parameters and key names to our modules."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.parsing.registry import flat_state_dict, load_renamed
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.model import SCADM, SCADMOptions, unfilled
from semfacediff.synthesis.spade import SPADEResnetBlock2D
from semfacediff.synthesis.style_encoder import StyleEncoder
from semfacediff.synthesis.unet import LATENT_CHANNELS, UNet

_OF_MODULES: dict[type, dict[str, str]] = {
    ResnetBlock2D: {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    },
    SPADEResnetBlock2D: {
        "norm1": "in_norm",
        "conv1": "in_layers.1",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_norm",
        "conv2": "out_layers.2",
        "conv_shortcut": "skip_connection",
    },
    TimestepEmbedding: {"linear_1": "0", "linear_2": "2"},
    Downsample2D: {"conv": "op"},
}
_OF_STYLE_ENCODER = (
    (r"^stem\.", "Encoder.first_layer."),
    (r"^down\.(\d+)\.", r"Encoder.enc_layer_\1."),
    (r"^up\.(\d+)\.", r"Decoder.dec_layer_\1."),
    (r"^heads\.(\d+)\.", r"out.out_\1.0."),
)
_OF_FIRST_STAGE = (
    (r"^vq\.", ""),
    (r"(down|up)_blocks\.(\d+)\.resnets\.", r"\1.\2.block."),
    (r"(down|up)_blocks\.(\d+)\.(down|up)samplers\.0\.", r"\1.\2.\3sample."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"attn_1\.group_norm\.", "attn_1.norm."),
    (r"attn_1\.to_([qkv])\.", r"attn_1.\1."),
    (r"attn_1\.to_out\.0\.", "attn_1.proj_out."),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
)


def published_names(model: nn.Module) -> dict[str, str]:
    """Key of ``model``'s state dict -> key under which the same tensor was published."""
    if isinstance(model, StyleEncoder):
        return {key: _rewritten(key, _OF_STYLE_ENCODER) for key in model.state_dict()}
    if isinstance(model, FirstStage):
        return {key: _of_first_stage(key, len(model.vq.config.block_out_channels)) for key in model.state_dict()}
    prefixes = {
        f"{name}.{ours}.".lstrip("."): f"{name}.{theirs}.".lstrip(".")
        for name, module in model.named_modules()
        for ours, theirs in _OF_MODULES.get(type(module), {}).items()
    }
    found = {}
    for key in model.state_dict():
        prefix = next((p for p in prefixes if key.startswith(p)), "")
        found[key] = prefixes.get(prefix, "") + key[len(prefix) :]
    return found


def _rewritten(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _of_first_stage(key: str, levels: int) -> str:
    # Ours counts the decoder's levels from the latent on, the published layout from the image on.
    key = re.sub(r"up_blocks\.(\d+)", lambda m: f"up_blocks.{levels - 1 - int(m[1])}", key)
    return _rewritten(key, _OF_FIRST_STAGE)


@dataclass(frozen=True)
class Component:
    """A published component.

    Attributes:
        cls: our module.
        names: published hyper-parameter -> argument of ``cls``.
        only: published hyper-parameters of which one value is known.
        ignored: those that change nothing.
    """

    cls: type[nn.Module]
    names: Mapping[str, str]
    only: Mapping[str, object]
    ignored: tuple[str, ...] = ()


COMPONENTS = {
    "style_encoder": Component(
        StyleEncoder,
        {
            "input_channels": "in_channels",
            "num_mask_channels": "classes",
            "num_downsample": "down",
            "num_feat": "features",
            "output_dim": "token_width",
        },
        {"kernel_dim": 3},
    ),
    "unet": Component(
        UNet,
        {
            "model_channels": "channels",
            "num_res_blocks": "layers",
            "attention_resolutions": "attention_factors",
            "channel_mult": "multipliers",
            "num_head_channels": "head_width",
            "context_dim": "token_width",
            "num_classes": "classes",
            "use_mask_attn": "mask_attention",
        },
        {"in_channels": LATENT_CHANNELS, "use_spatial_transformer": True},
        ("image_size",),
    ),
    "first_stage": Component(
        FirstStage,
        {
            "ch": "channels",
            "ch_mult": "multipliers",
            "num_res_blocks": "layers",
            "z_channels": "latent_channels",
            "n_embed": "codes",
        },
        {"double_z": False, "in_channels": 3, "out_ch": 3, "attn_resolutions": [], "dropout": 0.0},
        ("resolution",),
    ),
    "spade_resblock": Component(
        SPADEResnetBlock2D,
        {
            "channels": "in_channels",
            "emb_channels": "temb_channels",
            "dropout": "dropout",
            "c_channels": "classes",
            "out_channels": "out_channels",
        },
        {"use_scale_shift_norm": False},
    ),
}


def _dependent(component: str, hyper: Mapping) -> dict[str, object]:
    """Published hyper-parameters that follow from others."""
    if component == "style_encoder":
        return {"num_upsample": hyper.get("num_downsample", 0) - 1}
    if component == "unet":
        return {"out_channels": hyper.get("in_channels")}
    if component == "first_stage":
        return {"embed_dim": hyper.get("z_channels")}
    return {}


def build_component(component: str, hyper_parameters: Mapping) -> nn.Module:
    """An untrained component with *published* hyper-parameters (those of the manifests).

    Raises:
        UserError: unknown component or hyper-parameter, a missing one, or a value without an implementation.
    """
    if component not in COMPONENTS:
        raise UserError(f"unknown component '{component}' of SCA-DM; choose one of {', '.join(COMPONENTS)}")
    c = COMPONENTS[component]
    hyper = {**hyper_parameters.get("ddconfig", {}), **{k: v for k, v in hyper_parameters.items() if k != "ddconfig"}}
    known = {**c.only, **_dependent(component, hyper)}
    unknown = [k for k in hyper if k not in (*c.names, *known, *c.ignored)]
    missing = [k for k in c.names if k not in hyper and k != "dropout"]
    other = [f"{k}={hyper[k]!r} instead of {v!r}" for k, v in known.items() if k in hyper and hyper[k] != v]
    faults = [
        f"{word} {', '.join(names)}"
        for word, names in (("unknown", unknown), ("missing", missing), ("not supported", other))
        if names
    ]
    if faults:
        raise UserError(f"component '{component}': hyper-parameters do not fit: {'; '.join(faults)}")
    return c.cls(**{ours: hyper[theirs] for theirs, ours in c.names.items() if theirs in hyper})


def from_published(component: str, hyper_parameters: Mapping, state_dict: Mapping) -> nn.Module:
    """A component in eval mode with weights under their *published* key names.

    Args:
        component: ``style_encoder`` (call: images in [-1,1], one-hot mask), ``unet`` (x, t, tokens, one-hot mask),
            ``first_stage`` (``encode``, ``decode``) or ``spade_resblock`` (x, time embedding, mask).
        hyper_parameters: the published ones, as in the manifests.
        state_dict: a flat state dict, or one under ``state_dict``.

    Raises:
        UserError: unknown component; hyper-parameters that do not fit; missing, unexpected or mis-shaped keys.
    """
    model = unfilled(lambda: build_component(component, hyper_parameters))
    return _loaded(model, flat_state_dict(state_dict), f"component '{component}'").eval()


def _loaded(model: nn.Module, state: Mapping[str, Tensor], what: str) -> nn.Module:
    if isinstance(model, FirstStage):
        # 1x1 convolutions in the published attention, linear layers in ours.
        state = {
            k: v.flatten(1) if re.search(r"attn_1\.\w+\.weight", k) and v.ndim == 4 else v for k, v in state.items()
        }
    return load_renamed(model, state, published_names(model), what)


_UNET, _EMA = "model.diffusion_model.", "model_ema."
_STYLE, _FIRST = "cond_stage_model.", "first_stage_model."
_SCHEDULE = re.compile(
    r"betas|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|posterior_\w+|lvlb_weights|logvar"
    r"|scale_factor"
)


def from_checkpoint(contents: Mapping, options: SCADMOptions | None = None, ema: bool = True) -> SCADM:
    """The whole model in eval mode from a released training checkpoint.

    Args:
        contents: what :func:`~semfacediff.weight_files.read_weights` reads of the file.
        options: hyper-parameters; the published ones by default.
        ema: take the averaged weights of the denoiser. The style encoder was never averaged.

    Raises:
        UserError: a part is missing, or its keys do not fit.
    """
    state = flat_state_dict(contents)
    model = unfilled(lambda: SCADM(options))
    averaged = _part(state, _EMA)
    if ema and not averaged:
        raise UserError(f"the checkpoint has no averaged weights ('{_EMA}*'); take the last ones with ema=False")
    foreign = [k for k in state if not k.startswith((_UNET, _EMA, _STYLE, _FIRST)) and not _SCHEDULE.fullmatch(k)]
    if foreign:
        raise UserError(f"the checkpoint has {len(foreign)} keys of no known part ({', '.join(foreign[:4])})")
    unet = _with_dots(averaged, model.unet) if ema else _part(state, _UNET)
    _loaded(model.unet, unet, "checkpoint, " + ("averaged denoiser" if ema else "denoiser"))
    _loaded(model.style_encoder, _part(state, _STYLE), "checkpoint, style encoder")
    _loaded(model.first_stage, _part(state, _FIRST), "checkpoint, first stage")
    return model.eval()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _with_dots(averaged: Mapping[str, Tensor], unet: UNet) -> dict[str, Tensor]:
    """Averaged weights under the published names of the weights they average, which lost their dots."""
    names = {name.replace(".", ""): name for name in published_names(unet).values()}
    plain = {k.removeprefix("diffusion_model"): v for k, v in averaged.items() if k not in ("decay", "num_updates")}
    return {names.get(k, k): v for k, v in plain.items()}

"""A first stage on the disk: a folder that a training left, or the file of the public VQ-f4."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.parsing.checkpoint import WEIGHTS, surviving
from semfacediff.parsing.registry import flat_state_dict, load_exactly
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.model import LATENT_CHANNELS, SCADMOptions
from semfacediff.synthesis.published import from_published
from semfacediff.weight_files import file_digest, read_safetensors, read_weights

FORMAT = 1
CARD = "first_stage.json"
_HOW = (
    "train one with train_synthesis.py stage=first and name its folder, or name the public VQ-f4 file: "
    "first_stage.checkpoint=RUN|FILE"
)


@dataclass(frozen=True)
class FirstStageCard:
    """``first_stage.json``.

    Attributes:
        channels, multipliers, layers, codes: of :class:`semfacediff.synthesis.first_stage.FirstStage`.
        training: how it came to be.
    """

    channels: int
    multipliers: tuple[int, ...]
    layers: int
    codes: int
    training: dict = field(default_factory=dict)

    @classmethod
    def of(cls, o: SCADMOptions, training: dict | None = None) -> "FirstStageCard":
        return cls(o.vq_channels, tuple(o.vq_multipliers), o.vq_layers, o.vq_codes, training or {})

    def text(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"


def first_stage_digest(checkpoint: str | None) -> str:
    """SHA-256 of the weights that ``first_stage.checkpoint`` names.

    Raises:
        UserError: none is named, or nothing usable is there.
    """
    return file_digest(_weights(checkpoint))


def load_first_stage(checkpoint: str | None, options: SCADMOptions) -> FirstStage:
    """The frozen autoencoder in eval mode.

    Raises:
        UserError: none is named, nothing usable is there, or it is of other hyper-parameters than ``options``.
    """
    weights = _weights(checkpoint)
    if weights.name == WEIGHTS and (weights.parent / CARD).is_file():
        _same(_read_card(weights.parent), FirstStageCard.of(options), weights.parent)
        stage = FirstStage(options.vq_channels, options.vq_multipliers, options.vq_layers, options.vq_codes)
        return load_exactly(stage, read_safetensors(weights), str(weights)).requires_grad_(False).eval()
    state = _autoencoder(flat_state_dict(read_weights(weights)))
    return from_published("first_stage", _published(options), state).requires_grad_(False).eval()


def _weights(checkpoint: str | None) -> Path:
    """The file behind ``first_stage.checkpoint``."""
    if checkpoint is None:
        raise UserError(f"first_stage.checkpoint is not set: stage=diffusion works in a first stage's latents; {_HOW}")
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    for candidate in (path, path / "checkpoints" / "average"):
        found = surviving(candidate)
        if found and (found / CARD).is_file() and (found / WEIGHTS).is_file():
            return found / WEIGHTS
    there = f"{path} holds no {CARD}" if path.is_dir() else f"nothing is at {path}"
    raise UserError(f"first_stage.checkpoint: {there}; {_HOW}")


def _read_card(folder: Path) -> FirstStageCard:
    file = folder / CARD
    try:
        plain = json.loads(file.read_text())
        if plain.pop("format") != FORMAT:
            raise ValueError("another format")
        return FirstStageCard(**{**plain, "multipliers": tuple(plain["multipliers"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise UserError(f"{file}: not a first stage's card ({e}); retrain or copy the folder again") from e


def _same(there: FirstStageCard, asked: FirstStageCard, folder: Path) -> None:
    names = ("channels", "multipliers", "layers", "codes")
    differ = [
        f"synthesis.vq_{n}={getattr(asked, n)}, there {getattr(there, n)}"
        for n in names
        if getattr(asked, n) != getattr(there, n)
    ]
    if differ:
        raise UserError(f"first_stage.checkpoint: {folder} is of another shape ({'; '.join(differ)}); set them alike")


def _published(o: SCADMOptions) -> dict:
    """Hyper-parameters in the words of the published configuration."""
    ddconfig = {"ch": o.vq_channels, "ch_mult": list(o.vq_multipliers), "num_res_blocks": o.vq_layers}
    ddconfig |= {"z_channels": LATENT_CHANNELS, "double_z": False, "in_channels": 3, "out_ch": 3, "dropout": 0.0}
    return {"n_embed": o.vq_codes, "embed_dim": LATENT_CHANNELS, "ddconfig": ddconfig | {"attn_resolutions": []}}


def _autoencoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the parts of a training that are no part of the network."""
    return {k: v for k, v in state.items() if not k.startswith(("loss.", "model_ema."))}

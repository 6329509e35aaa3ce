"""A first stage on the disk: a folder that a training left, or the file of the public VQ-f4."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.folders import intact_folder
from semfacediff.parsing.checkpoint import WEIGHTS
from semfacediff.parsing.registry import flat_state_dict, load_exactly
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.model import SCADMOptions
from semfacediff.synthesis.published import from_published
from semfacediff.synthesis.unet import LATENT_CHANNELS
from semfacediff.weight_files import file_digest, read_safetensors, read_weights

FORMAT = 1
CARD = "first_stage.json"
_BLOCK = re.compile(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight")
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


@dataclass(frozen=True)
class TrainedFirstStage:
    """A frozen autoencoder in eval mode, and the SHA-256 of the file of its weights."""

    stage: FirstStage
    digest: str


def trained_first_stage(checkpoint: str | None, options: SCADMOptions) -> TrainedFirstStage:
    """What ``first_stage.checkpoint`` names.

    Raises:
        UserError: none is named, nothing usable is there, or it is of other hyper-parameters than ``options``.
    """
    weights, asked = _weights(checkpoint), FirstStageCard.of(options)
    trained_here = weights.name == WEIGHTS and (weights.parent / CARD).is_file()
    stage = _of_folder(weights.parent, asked) if trained_here else _of_file(weights, asked)
    return TrainedFirstStage(stage.requires_grad_(False).eval(), file_digest(weights))


def _of_folder(folder: Path, asked: FirstStageCard) -> FirstStage:
    """What a training here left."""
    _same(_read_card(folder), asked, folder)
    stage = FirstStage(asked.channels, asked.multipliers, asked.layers, asked.codes)
    return load_exactly(stage, read_safetensors(folder / WEIGHTS), f"first_stage.checkpoint: {folder / WEIGHTS}")


def _of_file(file: Path, asked: FirstStageCard) -> FirstStage:
    """Weights under the keys of the public VQ-f4."""
    contents = read_weights(file)
    try:
        state = _autoencoder(flat_state_dict(contents))
        found = _shape(state)
        if found is None:
            raise UserError(_not_it(state))
    except UserError as e:
        raise UserError(f"first_stage.checkpoint: {file}: {e}; {_HOW}") from e
    _same(found, asked, file)
    try:
        stage = from_published("first_stage", _published(asked), state)
    except UserError as e:
        faults = str(e).removeprefix("component 'first_stage': ")
        raise UserError(f"first_stage.checkpoint: {file}: {faults}; {_HOW}") from e
    if not isinstance(stage, FirstStage):
        raise TypeError(f"first_stage: expected a FirstStage, got {type(stage).__name__}")
    return stage


def _shape(state: Mapping[str, Tensor]) -> FirstStageCard | None:
    """What published keys tell of their network; ``None`` if they are of another one."""
    widths = {found.groups(): len(v) for k, v in state.items() if (found := _BLOCK.fullmatch(k))}
    stem, codes = state.get("encoder.conv_in.weight"), state.get("quantize.embedding.weight")
    if stem is None or codes is None or not widths:
        return None
    multipliers = [widths[place] // len(stem) for place in sorted(widths) if place[1] == "0"]
    layers = sum(level == "0" for level, _ in widths)
    return FirstStageCard(len(stem), tuple(multipliers), layers, len(codes))


def _not_it(state: Mapping[str, Tensor]) -> str:
    """What is there instead of a first stage."""
    if any(k.startswith(("unet.", "model.diffusion_model.")) for k in state):
        return "a whole SCA-DM, not the first stage that it works in"
    if any(k.startswith("vq.") for k in state):
        return f"a first stage trained here, without its {CARD} beside it"
    return f"expected the keys of VQ-f4, got {', '.join(list(state)[:3])}, ... ({len(state)} in all)"


def _weights(checkpoint: str | None) -> Path:
    """The file behind ``first_stage.checkpoint``."""
    if checkpoint is None:
        raise UserError(f"first_stage.checkpoint is not set: stage=diffusion works in a first stage's latents; {_HOW}")
    path = Path(checkpoint).expanduser()
    if path.is_file():
        return path
    for candidate in (path, path / "checkpoints" / "average"):
        found = intact_folder(candidate)
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
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise UserError(f"{file}: not a first stage's card ({e}); retrain or copy the folder again") from e


def _same(there: FirstStageCard, asked: FirstStageCard, place: Path) -> None:
    names = ("channels", "multipliers", "layers", "codes")
    plain = [{n: json.loads(json.dumps(getattr(card, n))) for n in names} for card in (asked, there)]
    differ = [f"synthesis.vq_{n}={plain[0][n]}, there {plain[1][n]}" for n in names if plain[0][n] != plain[1][n]]
    if differ:
        raise UserError(f"first_stage.checkpoint: {place} is of another shape ({'; '.join(differ)}); set them alike")


def _published(asked: FirstStageCard) -> dict:
    """Hyper-parameters in the words of the published configuration."""
    ddconfig = {"ch": asked.channels, "ch_mult": list(asked.multipliers), "num_res_blocks": asked.layers}
    ddconfig |= {"z_channels": LATENT_CHANNELS, "double_z": False, "in_channels": 3, "out_ch": 3, "dropout": 0.0}
    return {"n_embed": asked.codes, "embed_dim": LATENT_CHANNELS, "ddconfig": ddconfig | {"attn_resolutions": []}}


def _autoencoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the parts of a training that are no part of the network."""
    return {k: v for k, v in state.items() if not k.startswith(("loss.", "model_ema."))}

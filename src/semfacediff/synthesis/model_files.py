"""Which trained model a path means."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.folders import intact_folder
from semfacediff.parsing.checkpoint import WEIGHTS
from semfacediff.synthesis.checkpoint import CARD, SynthesisCard, load_synthesis
from semfacediff.synthesis.model import SCADM, SCADMOptions
from semfacediff.synthesis.published import from_checkpoint
from semfacediff.weight_files import file_digest, read_weights


def resolve_synthesis(path: str | Path | None, key: str) -> Path:
    """The checkpoint folder that ``path`` means: itself, or the averaged one of a training run; or a released file,
    named itself or alone in a folder.

    Args:
        key: of the configuration, for messages.

    Raises:
        UserError: nothing is named, or nothing there is a model.
    """
    if path is None:
        raise UserError(f"{key} is not set: name a run of train_synthesis.py, {key}=RUN")
    path = Path(path).expanduser()
    if path.is_file():
        return path.parent if (path.parent / CARD).is_file() else path  # one file of a checkpoint means all of it
    for candidate in (path, path / "checkpoints" / "average"):
        found = intact_folder(candidate)
        if found and (found / CARD).is_file():
            return found
    if len(archives := list(path.glob("*.ckpt"))) == 1:
        return archives[0]
    there = f"{path} holds no {CARD}" if path.is_dir() else f"nothing is at {path}"
    raise UserError(
        f"{key}: {there}; expected a run of train_synthesis.py (stage=diffusion), or a folder of its checkpoint"
    )


def trained_synthesis(place: Path) -> tuple[SCADM, SynthesisCard, str]:
    """(model in eval mode, card, SHA-256 of weights and hyper-parameters) of what :func:`resolve_synthesis` found.

    Raises:
        UserError: damaged, or not such a model.
    """
    if place.is_file():
        contents = read_weights(place)
        try:
            model = from_checkpoint(contents, SCADMOptions())
        except UserError as e:
            raise UserError(f"{place}: {e}") from e
        return model, SynthesisCard(model.options, training={"run": "released"}), file_digest(place)
    model, card = load_synthesis(place)
    text = file_digest(place / WEIGHTS) + json.dumps([asdict(card.options), card.label_space], sort_keys=True)
    return model, card, hashlib.sha256(text.encode()).hexdigest()

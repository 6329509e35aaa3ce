"""A trained model is a folder: ``model.safetensors`` (all parts) and ``synthesis.json``."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from semfacediff.errors import UserError
from semfacediff.folders import intact_folder, replacing
from semfacediff.labels import space
from semfacediff.parsing.checkpoint import WEIGHTS, write_weights
from semfacediff.parsing.registry import load_exactly
from semfacediff.synthesis.model import SCADM, SCADMOptions, unfilled
from semfacediff.weight_files import read_safetensors

FORMAT = 1
CARD = "synthesis.json"


@dataclass(frozen=True)
class SynthesisCard:
    """What must be known to use a model's weights rightly; ``synthesis.json``.

    Attributes:
        options: hyper-parameters.
        label_space: what the mask's channels stand for.
        training: how it came to be (run, data, epochs, score).
    """

    options: SCADMOptions
    label_space: str = "celebamask"
    training: dict = field(default_factory=dict)


def save_synthesis(model: SCADM, folder: Path, label_space: str = "celebamask", training: dict | None = None) -> None:
    """Write a checkpoint folder; what was there stays whole until the new one is."""
    with replacing(Path(folder)) as new:
        write_synthesis(model, new, label_space, training)


def write_synthesis(model: SCADM, folder: Path, label_space: str = "celebamask", training: dict | None = None) -> None:
    """Weights and card in an existing folder."""
    write_weights(folder, model.state_dict())
    card = SynthesisCard(model.options, label_space, training or {})
    (folder / CARD).write_text(json.dumps({"format": FORMAT, **asdict(card)}, indent=1) + "\n")


def read_synthesis_card(folder: Path) -> SynthesisCard:
    """The card of a checkpoint folder.

    Raises:
        UserError: no card there, a damaged one, or one of another format.
    """
    file = folder / CARD
    if not file.is_file():
        raise UserError(f"{folder} holds no {CARD}; expected a folder that training wrote")
    try:
        plain = json.loads(file.read_text())
        found = plain.pop("format")
        if found != FORMAT:
            raise UserError(f"format {found!r} is not {FORMAT}; use the version of semfacediff that wrote it")
        card = SynthesisCard(**{**plain, "options": SCADMOptions(**plain["options"])})
        named = space(card.label_space)
    except UserError as e:
        raise UserError(f"{file}: {e}") from e
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise UserError(f"{file}: not a model's card ({e}); retrain or copy the folder again") from e
    if named.n != card.options.classes:
        raise UserError(
            f"{file}: label space '{named.name}' has {named.n} classes, the model {card.options.classes}; "
            f"copy the folder again"
        )
    return card


def load_synthesis(folder: Path) -> tuple[SCADM, SynthesisCard]:
    """Model in eval mode and its card.

    Raises:
        UserError: missing, damaged or misfitting weights or card.
    """
    place = intact_folder(Path(folder).expanduser())
    if place is None:
        raise UserError(f"nothing is at {folder}; train a model with train_synthesis.py, or correct the path")
    card = read_synthesis_card(place)
    state = read_safetensors(place / WEIGHTS)
    return load_exactly(unfilled(lambda: SCADM(card.options)), state, str(place / WEIGHTS)).eval(), card

"""LoRA: small weights that are added to those of a pipeline."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semfacediff.errors import UserError
from semfacediff.hub import PLACE, cached_place
from semfacediff.weight_files import file_digest

_ADAPTER = "semfacediff"
_NAME = "pytorch_lora_weights.safetensors"
"""As diffusers saves one."""
_LAYER = re.compile(r"\.(lora[._].*|alpha)$")
"""What follows the name of the layer in that of a tensor."""


@dataclass(frozen=True)
class Lora:
    """A file of LoRA weights, and the factor that they are added with."""

    file: Path
    weight: float

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return file_digest(self.file)

    def facts(self) -> dict[str, object]:
        """For the record."""
        return {"file": self.file.name, "digest": self.digest, "weight": self.weight}


def find_lora(place: str, weight: float) -> Lora:
    """The LoRA of a file, a folder or an id ``OWNER/MODEL[@REVISION][/FILE]`` in the hub's cache.

    Raises:
        UserError: it is not there, its folder has several, or the package peft is missing.
    """
    try:
        import peft  # noqa: F401  what diffusers adds them with
    except ImportError as e:
        raise UserError("editor.lora needs the package peft; install it (pip install 'semfacediff[lora]')") from e
    path = Path(place).expanduser()
    if not path.exists() and PLACE.fullmatch(place):
        path = _cached(place)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        named = [file for file in files if file.name == _NAME] or files
        if len(named) != 1:
            found = ", ".join(file.name for file in named) or "none"
            raise UserError(f"editor.lora={place}: expected one .safetensors file in the folder, got {found}; name it")
        path = named[0]
    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(
            f"editor.lora={place}: expected a .safetensors file, or an id of the hub whose file is in its cache, found "
            f"none; download it (hf download OWNER/MODEL FILE) and name it"
        )
    return Lora(path, weight)


def _cached(place: str) -> Path:
    """A place of the hub in its cache: a folder, or a file in one; a path that does not exist if it has none."""
    owner, model, *inside = place.split("/")
    folder = cached_place("/".join((owner, model, *inside[:-1]))) if inside else cached_place(place)
    if folder is None:
        return Path(place)
    inner = folder / inside[-1] if inside else folder
    return inner if inner.exists() else Path(place)


def add_lora(pipe: Any, lora: Lora) -> None:
    """Add a LoRA to an opened pipeline.

    Raises:
        UserError: the pipeline takes none, or this one is of another family of models.
    """
    kind = type(pipe).__name__
    if not hasattr(pipe, "load_lora_weights"):
        raise UserError(f"editor.lora: {kind} takes no LoRA; leave it out")
    another = f"editor.lora={lora.file.name} does not fit {kind}"
    try:
        if strange := _strange(pipe, lora.file):
            raise UserError(
                f"{another}: {len(strange)} of its tensors have no layer there (first '{strange[0]}'); take a LoRA for "
                f"its family of models"
            )
        pipe.load_lora_weights(str(lora.file.parent), weight_name=lora.file.name, adapter_name=_ADAPTER)
        pipe.set_adapters(_ADAPTER, lora.weight)
    except UserError:
        raise
    except Exception as e:  # the libraries raise many kinds, for other shapes and unknown layouts
        reason = " ".join(f"{type(e).__name__}: {e}".split())[:160]
        raise UserError(f"{another} ({reason}); take one for its family of models") from e


def _strange(pipe: Any, file: Path) -> list[str]:
    """Tensors of a LoRA that no layer of the pipeline gets; diffusers leaves them out without a word."""
    denoiser = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
    told = {"unet_config": pipe.unet.config} if denoiser == "unet" else {}
    found = pipe.lora_state_dict(str(file.parent), weight_name=file.name, **told)
    state = found[0] if isinstance(found, tuple) else found
    layers = {f"{denoiser}.{name}" for name, _ in getattr(pipe, denoiser).named_modules()}
    return [name for name in state if not name.startswith("text_encoder") and _LAYER.sub("", name) not in layers]

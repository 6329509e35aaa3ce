"""What keys of the configuration are called in tables."""

from collections import Counter
from collections.abc import Sequence

_WORDS = {"lr": "learning rate", "n": "photos", "ema": "EMA", "n_workers": "workers"}
_UNITS = {"px": "px", "pct": "%", "s": "s", "mib": "MiB", "deg": "degrees"}


def parameter_labels(keys: Sequence[str]) -> tuple[str, ...]:
    """``region.feather_sigma_px`` -> ``feather sigma (px)``; with its group where another key has the same name."""
    short = [_label(key.rpartition(".")[2]) for key in keys]
    times = Counter(short)
    return tuple(
        label if times[label] == 1 or "." not in key else f"{key.rpartition('.')[0].replace('.', ' ')} {label}"
        for key, label in zip(keys, short, strict=True)
    )


def _label(name: str) -> str:
    words = name.split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    said = " ".join(_WORDS.get(word, word) for word in (words[:-1] if unit else words))
    return f"{said} ({unit})" if unit else said

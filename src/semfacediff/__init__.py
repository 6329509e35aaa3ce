"""SemFaceDiff: semantic face editing, from label map to table.

    photo + labels -> parser -> label map -> region mask -> editor -> edited photo -> parser again -> metrics -> records
       data/         parsing/              regions/       editing/                                 metrics/   records/

Inside the library images are float32 ``[N,3,H,W]`` in [0,1] (RGB), label maps int64 ``[N,H,W]``, region masks float32
``[N,1,H,W]`` in [0,1] with 1 = may be edited. Other ranges exist only inside the adapter that needs them.

On arrays, e.g. in a notebook (:mod:`semfacediff.api`; torch is imported at the first use)::

    labels = semfacediff.parse(photo, checkpoint="outputs/train_parser/...")
    mask = semfacediff.region_mask(labels, "hair")
    edited = semfacediff.edit(photo, "hair", "copper red hair", labels=labels)
    scores = semfacediff.score(photo, edited, mask)
"""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and the API reference; at run time torch is imported at the first use
    from semfacediff.api import edit as edit
    from semfacediff.api import parse as parse
    from semfacediff.api import region_mask as region_mask
    from semfacediff.api import score as score
    from semfacediff.api import score_sets as score_sets

__version__ = "0.2.0.dev0"

# diffusers and torchao (the extra `quantise`) disagree about names that nothing here uses, and say so at every import.
for _name in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)

_ON_ARRAYS = ("edit", "parse", "region_mask", "score", "score_sets")


def __getattr__(name: str) -> object:
    if name in _ON_ARRAYS:
        return getattr(importlib.import_module("semfacediff.api"), name)
    raise AttributeError(f"module 'semfacediff' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_ARRAYS])

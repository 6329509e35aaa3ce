"""Published parsers that are known by name, with their ids on the model hub."""

from dataclasses import dataclass
from pathlib import Path

from semfacediff.errors import UserError


@dataclass(frozen=True)
class PublicParser:
    """A published parser that is known by name.

    Attributes:
        id: what ``parser.checkpoint`` takes: ``OWNER/MODEL``, or ``OWNER/MODEL/FOLDER`` of one that holds several.
        size: bytes of what is needed of it, about. what: for the reader.
        on_request: large, and one of several: ``semfacediff fetch`` gets it only by name.
    """

    id: str
    size: int
    what: str
    on_request: bool = False


SEGFACE_FILE = "model_299.pt"
_SEGFACE = "kartiknarayan/SegFace"
_SEGFACE_FOLDERS = (
    *("convnext_celeba_512", "efficientnet_celeba_512", "mobilenet_celeba_512", "resnet_celeba_512"),
    *("swinb_celeba_224", "swinb_celeba_256", "swinb_celeba_448", "swinb_celeba_512", "swinv2b_celeba_512"),
    *("swinb_lapa_224", "swinb_lapa_256", "swinb_lapa_448", "swinb_lapa_512", "swinb_helen_512"),
)
_MILLIONS = dict(convnext=91.8, efficientnet=57.0, mobilenet=7.0, resnet=47.3, swinb=91.0, swinv2b=91.2)
"""Parameters by the first word of a folder's name."""
_BYTES = 12
"""Of a parameter in SegFace's files: itself and two moments of AdamW, float32 each."""

PUBLIC_PARSERS = {
    "face_parsing": PublicParser(
        "jonathandinu/face-parsing",
        339_000_000,
        "the thesis's SegFormer-B5, CelebAMask-HQ",
    ),
    **{
        f"segface_{folder}": PublicParser(
            f"{_SEGFACE}/{folder}",
            int(_MILLIONS[folder.partition("_")[0]] * _BYTES * 1e6),
            "SegFace, with its optimizer's state",
            on_request=True,
        )
        for folder in _SEGFACE_FOLDERS
    },
}


def there(file: Path) -> bool:
    """Whether ``file`` is there.

    Raises:
        UserError: it is a link to nothing, as an interrupted download or a pruned cache leaves them.
    """
    if file.is_symlink() and not file.exists():
        raise UserError(
            f"{file} is a link to a file that is not there, as an interrupted download leaves it; fetch the model again"
        )
    return file.is_file()

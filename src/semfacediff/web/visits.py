"""Files of a visitor, and what becomes of a mistake."""

import secrets
import shutil
import sys
import traceback
from functools import wraps
from pathlib import Path

import numpy as np

from semfacediff.errors import UserError
from semfacediff.web import wording
from semfacediff.web.pictures import encoded


def own_folder(folder: Path, visit: str) -> Path:
    """Where everything lies that is made for a visit."""
    return folder / f"visit-{visit}"


def taken(upload: Path) -> bytes:
    """Bytes of an uploaded file, which is then gone.

    Gradio names its folder by its content: whoever uploads the same file at the same moment may find it gone.
    """
    try:
        return upload.read_bytes()
    except FileNotFoundError as e:
        raise UserError("The file was gone before it was read; load it again") from e
    finally:
        shutil.rmtree(upload.parent, ignore_errors=True)


def written(file: Path, data: bytes) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return str(file)


def picture_file(picture: np.ndarray, own: Path) -> str:
    """A uint8 ``[H, W, 3]`` picture as a file of its own, to be shown."""
    return written(own / f"{secrets.token_hex(8)}.jpg", encoded(picture))


def offered_files(own: Path, stem: str, png: bytes, record: str) -> list[str]:
    """``<stem>.png`` and ``<stem>.json``, to be downloaded."""
    at = own / secrets.token_hex(8)
    return [written(at / f"{stem}.png", png), written(at / f"{stem}.json", record.encode())]


def told(handler):
    """A tab's handler whose mistakes become a sentence on the page; a defect's traceback goes to the terminal alone."""

    @wraps(handler)
    def telling(self, *args):
        try:
            return handler(self, *args)
        except UserError as e:
            return {self.message: wording.refused(str(e))}
        except Exception as e:
            traceback.print_exc(file=sys.stderr)
            text = f"Something failed here ({type(e).__name__}); the terminal says what"
            return {self.message: wording.refused(text)}

    return telling

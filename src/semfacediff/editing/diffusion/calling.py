"""What a pipeline of diffusers takes: told by its call's signature, its parts' configurations and one short table.

Nothing here loads weights: a setting that a pipeline would ignore is refused before any work.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from semfacediff.editing.diffusion.weights import PipelineFiles
from semfacediff.errors import UserError
from semfacediff.hub import INDEX

PHOTOS, MASKS = ("image", "input_images"), ("mask_image", "mask")
"""Names that calls have for the photo and for the mask."""
DEFAULT_SIZE = 1024
_NEEDED = ("prompt", "num_inference_steps", "generator", "output_type")


@dataclass(frozen=True)
class Unsaid:
    """What neither a signature nor a configuration says of a class.

    Attributes:
        size: side in pixels of the square whose area it works at, whatever it is asked for.
        guidance: key through which guidance acts.
    """

    size: int | None = None
    guidance: str | None = None


UNSAID: Mapping[str, Unsaid] = {
    "QwenImageEditInpaintPipeline": Unsaid(size=1024),
    "LongCatImageEditPipeline": Unsaid(size=1024),
    "ChromaInpaintPipeline": Unsaid(guidance="guidance_scale"),  # it has a true_cfg_scale, and does not read it
}


@dataclass(frozen=True)
class Call:
    """How a class of diffusers is called.

    Attributes:
        kind: name of the class. defaults: parameter of its call -> default, of every parameter.
        photo, mask: names of the parameters; ``mask`` is ``None`` for a maskless model.
        size: side of the square that it works at: what it was trained for, or what it insists on (``fixed_size``).
        guidance: key through which guidance acts; ``None``: it was distilled so that none does.
        opposed_by: key through which a negative prompt acts, over 1; ``None``: it takes no negative prompt.
    """

    kind: str
    defaults: Mapping[str, Any]
    photo: str
    mask: str | None
    size: int
    fixed_size: bool
    guidance: str | None
    opposed_by: str | None

    def takes(self, name: str) -> bool:
        return name in self.defaults

    def geometry(self, side: int) -> dict[str, Any]:
        """Arguments that have it work at ``side`` x ``side`` pixels and leave the photo's size alone."""
        known = {"height": side, "width": side, "max_area": side * side, "_auto_resize": False}
        return {name: value for name, value in known.items() if self.takes(name) and not self.fixed_size}


Options = TypeVar("Options")

_REACHES = {"strength": "strength", "true_cfg_scale": "true_cfg_scale", "image_guidance": "image_guidance_scale"}
"""Option -> parameter of the call, where the two are one."""


def settled(options: Options, call: Call) -> Options:
    """``options`` with the pipeline's own values in the place of ``None``; what it does not take stays ``None``.

    Raises:
        UserError: an option is set that the pipeline would ignore.
    """
    names, found = {field.name for field in fields(options)}, {}  # type: ignore[arg-type]
    taken = {name: key for name, key in _REACHES.items() if name in names}
    for name, key in (taken | {"guidance": call.guidance, "steps": "num_inference_steps"}).items():
        value = getattr(options, name)
        if key is None or not call.takes(key):
            if value is not None:
                raise UserError(f"editor.{name}={value}: {call.kind} takes none and would ignore it; set it to null")
        elif value is None:
            found[name] = call.defaults[key]
    if getattr(options, "true_cfg_scale", None) is not None and call.guidance == "true_cfg_scale":
        raise UserError(f"editor.true_cfg_scale: in {call.kind} editor.guidance is that scale; set editor.guidance")
    if call.guidance == "true_cfg_scale" or not call.takes("true_cfg_scale"):
        found.pop("true_cfg_scale", None)
    size = options.native_size  # type: ignore[attr-defined]
    if call.fixed_size and size not in (None, call.size):
        raise UserError(
            f"editor.native_size={size}: {call.kind} works at {call.size} px whatever it is asked for; set it to null"
        )
    return replace(options, **found, native_size=size or call.size)  # type: ignore[type-var]


def call_of(files: PipelineFiles, masked: bool) -> Call:
    """How the pipeline of a folder is called: by ``files.kind``, else by the class that its index or, for inpainting,
    ``AutoPipelineForInpainting`` names.

    Args:
        masked: whether it must take a mask, or must take none.

    Raises:
        UserError: this diffusers does not have the class, or it is no pipeline of that kind.
    """
    cls = _class(files, masked)
    kind, parameters = cls.__name__, inspect.signature(cls.__call__).parameters
    defaults = {n: None if p.default is p.empty else p.default for n, p in parameters.items() if n != "self"}
    photo, mask = (next((n for n in names if n in defaults), None) for names in (PHOTOS, MASKS))
    how = "editor.pipeline=CLASS names another class of its family"
    if photo is None or (mask is None) == masked:
        other = "a mask; editor=inpaint is for it" if mask else "no photo" if photo is None else "no mask"
        hint = "editor=instruct is for it, and " if mask is None and photo else ""
        raise UserError(f"{kind} takes {other}; {hint}{how}" if not mask else f"{kind} takes {other}; {how}")
    if lacking := [name for name in _NEEDED if name not in defaults]:
        raise UserError(f"{kind} takes no {', '.join(lacking)}, which this editor sets; {how}")
    said, unsaid = _configuration(files), UNSAID.get(kind, Unsaid())
    guidance = unsaid.guidance or _guidance(defaults, said)
    opposed_by = None
    if "negative_prompt" in defaults:
        opposed_by = "true_cfg_scale" if "true_cfg_scale" in defaults and not unsaid.guidance else guidance
    size = unsaid.size or said.get("size") or DEFAULT_SIZE
    return Call(kind, defaults, photo, mask, size, unsaid.size is not None, guidance, opposed_by)


def _guidance(defaults: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """A model distilled for guidance is told it; another one with a ``true_cfg_scale`` ignores everything else."""
    if said.get("is_distilled"):
        return None
    if "true_cfg_scale" in defaults and not said.get("guidance_embeds"):
        return "true_cfg_scale"
    return "guidance_scale" if "guidance_scale" in defaults else None


def _configuration(files: PipelineFiles) -> dict[str, Any]:
    """What the folder's files say: ``guidance_embeds``, ``is_distilled``, and the ``size`` of a UNet's photos."""
    found = {"is_distilled": _read(files, INDEX).get("is_distilled")}
    found["guidance_embeds"] = _read(files, "transformer/config.json").get("guidance_embeds")
    latents = _read(files, "unet/config.json").get("sample_size")
    if isinstance(latents, int):
        blocks = _read(files, "vae/config.json").get("block_out_channels") or [0] * 4
        found["size"] = latents * 2 ** (len(blocks) - 1)
    return found


def _read(files: PipelineFiles, name: str) -> dict[str, Any]:
    file = files.folder / name
    try:
        return json.loads(file.read_text()) if file.is_file() else {}
    except ValueError as e:
        raise UserError(f"{file}: no JSON ({e}); copy it again") from e


def _class(files: PipelineFiles, masked: bool) -> Any:
    import diffusers
    from diffusers.pipelines.auto_pipeline import AUTO_INPAINT_PIPELINES_MAPPING, _get_task_class

    name = files.kind or str(_read(files, INDEX).get("_class_name"))
    cls = getattr(diffusers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, diffusers.DiffusionPipeline)):
        where = "editor.pipeline" if files.kind else f"{files.folder}/{INDEX}"
        raise UserError(
            f"{where}: diffusers {diffusers.__version__} has no pipeline '{name}'; correct the name, or install a "
            f"diffusers that has it"
        )
    takes = inspect.signature(cls.__call__).parameters
    if files.kind or not masked or any(mask in takes for mask in MASKS):
        return cls
    found = _get_task_class(AUTO_INPAINT_PIPELINES_MAPPING, name, throw_error_if_not_exist=False)
    return found or cls

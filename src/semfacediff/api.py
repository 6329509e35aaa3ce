"""Parse, edit and score arrays, e.g. in a notebook: the stages of a run without its files.

Reached as ``semfacediff.parse``, ``.region_mask``, ``.edit``, ``.score`` and ``.score_sets``. Nothing is written,
downloaded or drawn from a global generator; loaded networks are kept in memory for the next call. Values come from the
same files in ``conf/`` as those of ``evaluate.py``, so that both do the same.
"""

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from semfacediff import config
from semfacediff.editing.apply import EditRules, EditSpec, apply_edit, mask_bytes
from semfacediff.editing.base import Editor
from semfacediff.editing.opening import open_editor
from semfacediff.engine.devices import choose_device
from semfacediff.errors import UserError
from semfacediff.labels import attribute_classes, conversion, space
from semfacediff.metrics.base import PROTOCOLS, EditPair
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.inception import FEATURES, Inception
from semfacediff.metrics.mask_iou import MaskIoU
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.set_scores import SetScores
from semfacediff.metrics.weights import CLIP_MODEL, INCEPTION, LPIPS_ALEXNET, find, find_clip
from semfacediff.parsing import ModelParser
from semfacediff.parsing.checkpoint import ONNX, WEIGHTS, resolve
from semfacediff.parsing.default import default_parser
from semfacediff.parsing.opening import open_trained
from semfacediff.regions import RegionRule, attribute_region, region_masks
from semfacediff.regions.portraits import parse_faces
from semfacediff.tasks.editing.prompts import PromptRules, resolve_prompt
from semfacediff.types import RegionMasks, to_tensor


def parse(
    photo: np.ndarray,
    checkpoint: str | Path | None = None,
    *,
    label_space: str = "celebamask",
    device: str = "auto",
    backend: str = "torch",
) -> np.ndarray:
    """The label map of a photo, uint8 ``[H, W]`` in ``label_space``, as ``semfacediff parse`` writes it.

    Args:
        photo: uint8 ``[H, W, 3]`` RGB, any size.
        checkpoint: folder of a trained parser, or of the run that trained it (its best is taken); ``None``: the one
            that ships with the package.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        backend: ``onnx`` computes with onnxruntime, in a folder that ``semfacediff export`` made.

    Raises:
        UserError: not a photo, or no usable parser there.
    """
    _check_photo(photo, "photo")
    checkpoint = checkpoint or default_parser()
    if checkpoint is None:
        raise UserError("parse: no parser ships with this version; pass checkpoint=FOLDER (a run of train_parser.py)")
    folder = resolve(checkpoint)
    file = folder / (ONNX if backend == "onnx" else WEIGHTS)
    parser = _parser(str(folder), file.stat().st_mtime_ns if file.exists() else 0, device, backend)
    return conversion(parser.label_space, space(label_space))[parse_faces(parser, photo).labels].astype(np.uint8)


def region_mask(
    labels: np.ndarray, attribute: str, *, protocol: str = "strict", label_space: str = "celebamask"
) -> np.ndarray:
    """What an edit of ``attribute`` may change: the blend mask, uint8 ``[H, W]``, 255 = edit, 0 = keep.

    Args:
        labels: integers ``[H, W]`` in ``label_space``.
        attribute: one of :data:`semfacediff.labels.ATTRIBUTES`, e.g. ``hair``.
        protocol: whose rule is taken for growing and feathering (``conf/protocol``).
    """
    return mask_bytes(_masks(labels, attribute, protocol, label_space).blend)


def edit(
    photo: np.ndarray,
    attribute: str,
    prompt: str,
    *,
    labels: np.ndarray,
    editor: str | Editor = "recolor",
    protocol: str = "strict",
    label_space: str = "celebamask",
    negative: str | None = None,
    seed: int = 42,
    device: str = "auto",
    **options: object,
) -> np.ndarray:
    """The photo with one region edited, uint8 ``[H, W, 3]``; under ``strict`` no byte outside the region changes.

    Args:
        photo: uint8 ``[H, W, 3]`` RGB.
        attribute: region, e.g. ``hair``. prompt: what it should look like.
        labels: integers ``[H, W]`` in ``label_space``, e.g. from :func:`parse`.
        editor: a name (``recolor``, ``identity``), or an object that follows :class:`semfacediff.editing.base.Editor`.
        protocol: whose region, negative prompt and composite are taken.
        negative: instead of the protocol's negative prompt; for editors with text encoders.
        options: of the editor, e.g. ``strength=0.5``; the others are those in ``conf/editor``.

    Raises:
        UserError: arrays that do not fit each other, an unknown name or option, or a prompt that the editor refuses.
    """
    _check_photo(photo, "photo")
    _check_same_size(labels, photo, "labels")
    masks = _masks(labels, attribute, protocol, label_space)
    if isinstance(editor, str):
        editor = _named_editor(editor, options, device)
    elif options:
        raise UserError(f"edit: options ({', '.join(options)}) are for an editor given by name; set them on the object")
    preset = _preset("protocol", protocol)
    prompt_rules = PromptRules(preset["negatives"], "", prompt_expansion=False)
    words = resolve_prompt(attribute, prompt, negative, prompt_rules, editor, f"for '{attribute}'").words
    editor.check({attribute: prompt})
    rules, spec = _edit_rules(preset, seed), EditSpec(attribute, words)
    parse = torch.from_numpy(labels.astype(np.int64))
    request = rules.request("array", to_tensor(photo), spec, masks, parse, space(label_space))
    if note := editor.note(request):
        warnings.warn(f"edit of '{attribute}': {note}", stacklevel=2)
    applied = apply_edit(editor, rules, photo, request)
    if applied is None:
        covered = f"{100 * masks.coverage:.2f} % of the photo"
        warnings.warn(f"edit: '{attribute}' covers {covered}, too little; the photo is returned", stacklevel=2)
        return photo.copy()
    return applied.photo


def score(
    photo: np.ndarray,
    edit: np.ndarray,
    mask: np.ndarray,
    protocol: str = "strict",
    *,
    attribute: str | None = None,
    labels: np.ndarray | None = None,
    edit_labels: np.ndarray | None = None,
    label_space: str = "celebamask",
    prompt: str | None = None,
    weights: Mapping[str, str | Path] | None = None,
    clip_model: str = CLIP_MODEL,
    device: str = "auto",
) -> dict[str, float | None]:
    """How well the edit kept what lies outside the mask: ``ssim``, ``psnr_outside`` (dB), ``max_abs_outside`` (0..255).

    ``thesis`` values are the thesis's only for photos brought to 1024 x 1024 before the edit, as it does.

    Args:
        photo, edit: uint8 ``[H, W, 3]``.
        mask: uint8 ``[H, W]``, 255 = edit, e.g. from :func:`region_mask`; or bool, ``True`` = edit.
        protocol: ``strict`` or ``thesis`` (see docs/protocols.md).
        attribute, labels, edit_labels: region, and integers ``[H, W]`` in ``label_space`` of photo and edit, e.g. from
            :func:`parse`; with all three the result has ``iou`` too.
        weights: files by their keys in the configuration: ``lpips_alexnet`` adds ``lpips``; ``clip`` adds ``clip``, the
            cosine of edit and ``prompt``, and belongs to ``clip_model``. Read once, kept for the next call.

    Returns:
        Values by column; ``None`` where there is nothing to measure, and infinite ``psnr_outside`` for equal photos.

    Raises:
        UserError: arrays that do not fit each other, files that are no such weights, or only half of what a column
            needs.
    """
    _check_photo(photo, "photo")
    _check_photo(edit, "edit")
    for name, array in (("edit", edit), ("mask", mask)):
        _check_same_size(array, photo, name)
    if mask.dtype == bool:
        mask = mask.astype(np.uint8) * 255
    if mask.dtype != np.uint8:
        raise UserError(f"mask: expected uint8 with 255 = edit, or bool, got {mask.dtype}; region_mask() makes one")
    _preset("protocol", protocol)
    files = _known_weights(weights, ("lpips_alexnet", "clip"))
    metrics: list[SSIM | PSNR | MaskIoU | LPIPS | CLIP] = [SSIM(protocol), PSNR(protocol)]
    before, after = mask >= 128, None
    if any(x is not None for x in (attribute, labels, edit_labels)):
        regions = _regions(photo, attribute, {"labels": labels, "edit_labels": edit_labels}, label_space)
        (before, after), metrics = regions, [*metrics, MaskIoU(protocol)]
    if "lpips_alexnet" in files:
        metrics.append(_lpips(*files["lpips_alexnet"], protocol, device))
    if "clip" in files:
        if not prompt:
            raise UserError("score: weights['clip'] compares the edit with a prompt; pass prompt='...'")
        metrics.append(_clip(*files["clip"], clip_model, device))
    pair = EditPair(photo=photo, edit=edit, blend=mask, before=before, after=after, prompt=prompt or "")
    return {column: value for metric in metrics for column, value in metric.score(pair).items()}


def score_sets(
    photos: Iterable[np.ndarray],
    edits: Iterable[np.ndarray],
    *,
    weights: Mapping[str, str | Path],
    device: str = "auto",
) -> dict[str, float | int | None]:
    """Distances between all photos and all their edits: ``fid`` with ``fid_n``, ``kid`` with ``kid_sd``.

    Args:
        photos, edits: uint8 ``[H, W, 3]`` each, in the same order; may be generators, one photo at a time is in memory.
        weights: ``inception``: pytorch-fid's file.

    Raises:
        UserError: another number of edits than of photos, fewer than two, or features that are not finite.
    """
    files = _known_weights(weights, ("inception",))
    if "inception" not in files:
        raise UserError("score_sets: expected weights={'inception': FILE}, pytorch-fid's pt_inception-2015-12-05")
    sets = SetScores(("fid", "kid"), _inception(*files["inception"], device))
    features = []
    for name, images in (("photos", photos), ("edits", edits)):
        found = list(sets.network.features(_checked_photos(images, name)))
        features.append(np.array(found, np.float32).reshape(-1, FEATURES))
    if len(features[0]) != len(features[1]):
        raise UserError(f"score_sets: {len(features[0])} photos and {len(features[1])} edits; pass one edit a photo")
    values, why = sets.score(*features)
    if "fid" not in values:
        raise UserError(f"score_sets: {why}")
    for said in (f"kid is missing: {why}" if why else None, sets.warning(len(features[0]))):
        if said:
            warnings.warn(said, stacklevel=2)
    return values


def _checked_photos(images: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
    for i, image in enumerate(images):
        _check_photo(image, f"{name}[{i}]")
        yield image


def _regions(
    photo: np.ndarray, attribute: str | None, labels: Mapping[str, np.ndarray | None], label_space: str
) -> list[np.ndarray]:
    """bool ``[H, W]``: the attribute's region in each of ``labels``."""
    given = {name: array for name, array in labels.items() if array is not None}
    if attribute is None or len(given) < len(labels):
        raise UserError("score: iou compares the region before and after; pass attribute, labels and edit_labels")
    for name, array in given.items():
        _check_same_size(array, photo, name)
        _check_labels(array, name, label_space)
    attribute_classes(attribute)
    maps = (torch.from_numpy(x.astype(np.int64)) for x in given.values())
    return [attribute_region(x, attribute, space(label_space)) for x in maps]


def _known_weights(weights: Mapping[str, str | Path] | None, keys: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Key -> (file, when it was changed), which is what loaded networks are kept by."""
    unknown = sorted((weights or {}).keys() - set(keys))
    if unknown:
        raise UserError(f"weights: expected {' or '.join(map(repr, keys))}, got {unknown[0]!r}")
    files = {key: Path(file).expanduser() for key, file in (weights or {}).items()}
    return {key: (str(f), f.stat().st_mtime_ns if f.exists() else 0) for key, f in files.items()}


@functools.lru_cache(maxsize=2)
def _lpips(file: str, _changed: int, protocol: str, device: str) -> LPIPS:
    found = find(LPIPS_ALEXNET, file, None, download=False)
    return LPIPS(protocol, found.state, found.name, _device(device))


@functools.lru_cache(maxsize=1)
def _clip(file: str, _changed: int, model: str, device: str) -> CLIP:
    found = find_clip(model, file, None, download=False)
    return CLIP(model, found.state, found.name, _device(device))


@functools.lru_cache(maxsize=1)
def _inception(file: str, _changed: int, device: str) -> Inception:
    found = find(INCEPTION, file, None, download=False)
    return Inception(found.state, found.name, _device(device))


@functools.lru_cache(maxsize=2)
def _parser(folder: str, _changed: int, device: str, backend: str) -> ModelParser:
    """A loaded parser; kept until two others were used or its file changes."""
    plain = config.ParserConfig.trained(folder).model_dump() | {"backend": backend}
    settings = _typed(config.ParserConfig, plain, "parse")
    with torch.random.fork_rng(devices=[]):  # a new network draws its weights before they are loaded
        model, card, _ = open_trained(settings)
    return ModelParser(model, card, _device(device))


def _device(name: str) -> torch.device:
    return choose_device(config.checked(config.DeviceConfig, {"device": name}))


def _named_editor(name: str, options: dict, device: str) -> Editor:
    if name == "precomputed":
        raise UserError("edit: editor 'precomputed' reads files of a data set; use evaluate.py, or score() the arrays")
    settings = _typed(config.AnyEditor, {**_preset("editor", name), **options}, f"editor '{name}'")
    return open_editor(settings, _device(device))[0]


def _typed(model: Any, plain: dict, what: str) -> Any:
    """``plain`` as a model of :mod:`semfacediff.config`; a :class:`UserError` says what is wrong with it."""
    try:
        return TypeAdapter(model).validate_python(plain)
    except ValidationError as e:
        faults = "; ".join(f"{error['loc'][-1]}: {error['msg']}, got {error['input']!r}" for error in e.errors())
        raise UserError(f"{what}: {faults}") from e


def _preset(group: str, name: str) -> dict:
    """``conf/<group>/<name>.yaml``; a :class:`UserError` lists the choices if there is none."""
    folder = config.repository() / "conf" / group
    choices = sorted(p.stem for p in folder.glob("*.yaml"))
    known = [c for c in choices if c in PROTOCOLS] if group == "protocol" else choices
    if name not in known:
        raise UserError(f"{group}: expected one of {', '.join(known)}, got {name!r}")
    return yaml.safe_load((folder / f"{name}.yaml").read_text())


def _edit_rules(preset: dict, seed: int = 0) -> EditRules:
    """Those of a file in ``conf/protocol``."""
    keys = {key: preset[key] for key in ("composite", "inpaint_mask", "seeds")}
    region, thesis = RegionRule(**preset["region"]), preset["protocol"] == "thesis"
    return EditRules(region, seam="none", seed=seed, edit_empty=thesis, **keys)


def _masks(labels: np.ndarray, attribute: str, protocol: str, label_space: str) -> RegionMasks:
    attribute_classes(attribute)
    _check_labels(labels, "labels", label_space)
    rules = _edit_rules(_preset("protocol", protocol))
    return region_masks(torch.from_numpy(labels.astype(np.int64)), attribute, space(label_space), rules.region)


def _check_labels(labels: np.ndarray, name: str, label_space: str) -> None:
    n = space(label_space).n
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{name}: expected integers [H, W], got {labels.dtype} {list(labels.shape)}; parse() makes them"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < n:
        raise UserError(
            f"{name}: expected 0..{n - 1} as in label space '{label_space}', got {labels.min()}..{labels.max()}; "
            f"name their space with label_space="
        )


def _check_photo(photo: np.ndarray, name: str) -> None:
    if not isinstance(photo, np.ndarray) or photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        got = f"{photo.dtype} {list(photo.shape)}" if isinstance(photo, np.ndarray) else type(photo).__name__
        raise UserError(f"{name}: expected a uint8 array [H, W, 3] (RGB), got {got}; numpy.asarray(image) makes one")


def _check_same_size(array: np.ndarray, photo: np.ndarray, name: str) -> None:
    if array.shape[:2] != photo.shape[:2]:
        size, expected = (" x ".join(map(str, a.shape[:2])) for a in (array, photo))
        raise UserError(f"{name}: expected the photo's size {expected}, got {size}; resize one of the two")

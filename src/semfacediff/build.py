"""The only place that turns configuration into objects."""

import dataclasses
import gc
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.celebamask_hq import OfficialFaces
from semfacediff.data.celebamask_layout import index_official
from semfacediff.data.files import FileFaces, index_folder, index_shards, select
from semfacediff.data.helen import HelenFaces, held_out, index_helen
from semfacediff.data.landmarks import LandmarkedFaces
from semfacediff.data.lapa import LapaFaces, index_lapa
from semfacediff.data.relabelled import Relabelled
from semfacediff.data.splits import DrawnSubset, Split, SplitRule, read_split_list
from semfacediff.data.subset import Subset
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.base import Editor
from semfacediff.editing.diffusion import InpaintEditor, InpaintOptions, MemoryProfile, find_pipeline
from semfacediff.editing.diffusion.pipeline import SharedPipeline, chosen_dtype
from semfacediff.editing.identity import Identity
from semfacediff.editing.precomputed import Precomputed
from semfacediff.editing.recolor import Recolor
from semfacediff.engine.devices import device
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, LabelSpace, space
from semfacediff.metrics.base import Metric
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.geometry import GeometryShift
from semfacediff.metrics.inception import Inception
from semfacediff.metrics.leakage import Leakage
from semfacediff.metrics.mask_iou import MaskIoU
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.metrics.seam import Seam
from semfacediff.metrics.set_scores import SET_COLUMNS, SetScores
from semfacediff.metrics.weights import (
    CLIP_VIT_B_32,
    INCEPTION,
    LPIPS_ALEXNET,
    PUBLIC,
    FoundWeights,
    MissingWeightsError,
    PublicWeights,
    find,
    find_clip,
    located,
)
from semfacediff.parsing import GroundTruthParser, ModelParser, Parser, PrecomputedParser, build_parser, load_parser
from semfacediff.parsing.checkpoint import (
    ONNX,
    WEIGHTS,
    ParserCard,
    checkpoint_digest,
    checkpoint_state,
    file_digest_with,
    load_published,
    resolve,
)
from semfacediff.parsing.default import SHIPPED, default_parser
from semfacediff.parsing.folding import fold_batch_norms
from semfacediff.parsing.onnx_model import load_onnx
from semfacediff.parsing.registry import FPN
from semfacediff.parsing.segformer_folder import start_digest, start_from
from semfacediff.training.course import Course, Phased, Scheduled
from semfacediff.training.optimisers import AdamWSettings
from semfacediff.training.plateau import PlateauSettings
from semfacediff.weight_files import file_state

__all__ = ["device"]  # of what is imported here: the objects that configuration makes are one module's names

_OF_PROTOCOL = {"ssim": SSIM, "psnr": PSNR, "iou": MaskIoU, "leakage": Leakage}
"""Metrics without weights whose definition depends on the protocol."""
MAX_BAD_SHOWN = 50
TOY_VERSION = 1
"""Raised whenever the drawings change, so that records of old drawings are told apart."""


class _Kept:
    """The last thing made of its kind, for the next job of a sweep if it asks for the same of unchanged files."""

    def __init__(self):
        self._key: object = None
        self._made: Any = None

    def get(self, key: object, make: Callable[[], Any]) -> Any:
        if "SEMFACEDIFF_SWEEP" not in os.environ:  # set for the jobs of a sweep: nothing else asks twice
            return make()
        if key != self._key:
            self._key = self._made = None  # before the new one, so that a device need not hold both
            gc.collect()  # a pipeline holds itself through its hooks
            self._made = make()
            self._key = key
        return self._made


_inspected, _parser, _metrics, _pipeline = _Kept(), _Kept(), _Kept(), _Kept()


@dataclass(frozen=True)
class Data:
    """A data set that has been read through once.

    Attributes:
        faces: map-style data set of :class:`semfacediff.types.FaceSample`, ids sorted.
        digest: SHA-256 over ids and contents.
        skipped: id (or archive) -> reason, where ``data.on_error=skip`` left something out.
        n_expected: samples that were selected, the skipped ones included.
    """

    faces: Subset | FileFaces | Relabelled
    digest: str
    skipped: dict[str, str]
    n_expected: int

    @property
    def label_space(self) -> LabelSpace:
        return self.faces.label_space


def data(settings: config.DataConfig, split: str | None = None, labels_needed: bool = True, limit: int | None = None):
    """The :class:`Data` that the configuration describes, checked file by file.

    Args:
        split: instead of ``data.split``.
        limit: keep the first samples only.

    Raises:
        UserError: nothing selected, fewer samples than ``data.n``, or defective files (every one is named).
    """
    made = _data(settings, split or settings.split, labels_needed, limit)
    # Training takes the first n of each of its parts; an evaluation of n samples must have n.
    if split is None and limit is None and settings.n is not None and made.n_expected < settings.n:
        raise UserError(
            f"data.n={settings.n}, but split '{settings.split}' has {made.n_expected} samples; lower data.n or unset it"
        )
    return made


def in_space(made: Data, name: str | None) -> Data:
    """``made`` with labels in the space called ``name``, converted by class name; ``None``: as they are.

    Raises:
        UserError: that space lacks a class of the data.
    """
    return made if name is None else dataclasses.replace(made, faces=Relabelled(made.faces, space(name)))


def _data(settings: config.DataConfig, split: str, labels_needed: bool, limit: int | None) -> Data:
    if settings.name == "celebamask_hq":
        return _official(settings, split, labels_needed, limit)
    if settings.name == "lapa":
        faces = LapaFaces(index_lapa(Path(settings.root).expanduser(), labels_needed), settings.allow_mask_resize)
        return _landmarked(settings, split, faces, {e.id: e.part for e in faces.entries}, limit)
    if settings.name == "helen":
        return _helen(settings, split, labels_needed, limit)
    if settings.name == "toy":
        return _toy(settings, split, limit)
    return _files(settings, split, labels_needed, limit)


def _first(a: int | None, b: int | None) -> int | None:
    return min((n for n in (a, b) if n is not None), default=None)


def _split(settings: config.RuledData, ids: Sequence[str]) -> Split:
    """Of ``ids``, every candidate in the data set."""
    if settings.subset is not None:
        return _subset(settings.subset, ids)
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.split_rule.model_dump().items()}
    if plain["by"] == "file" and settings.name != "toy":
        plain["listed"] = read_split_list(Path(settings.root).expanduser())
    return SplitRule(**plain)


def _subset(settings: config.SubsetConfig, ids: Sequence[str]) -> DrawnSubset:
    sizes = settings.model_dump(exclude={"seed"})
    return DrawnSubset.draw(ids, sizes, settings.seed)


def _toy(settings: config.ToyData, split: str, limit: int | None) -> Data:
    every = ToyFaces(settings.count, settings.size, settings.seed)
    rule = _split(settings, every.ids)
    chosen = [i for i, id_ in enumerate(every.ids) if rule.has(split, id_, i)]
    faces = Subset(every, chosen[: _first(settings.n, limit)])
    _not_empty(faces, settings, split)
    facts = f"toy:{TOY_VERSION}:{settings.size}:{settings.seed}:{','.join(faces.ids)}"
    return Data(faces, hashlib.sha256(facts.encode()).hexdigest(), {}, len(faces))


def _files(settings: config.FileData, split: str, labels_needed: bool, limit: int | None) -> Data:
    root = Path(settings.root).expanduser()
    if settings.name == "folder":
        index = index_folder(root, settings.images, settings.masks, labels_needed)
    else:
        index = index_shards(root, settings.shards, labels_needed)
    rule = _split(settings, [e.id for e in index.candidates])
    entries = select(index.candidates, rule, split, _first(settings.n, limit))
    faces = FileFaces(entries, space(settings.label_space), settings.allow_mask_resize)
    return _checked(faces, index.broken, settings, split)


def _official(settings: config.CelebAMaskHQData, split: str, labels_needed: bool, limit: int | None) -> Data:
    index = index_official(Path(settings.root).expanduser(), labels_needed)
    if settings.subset is not None:
        drawn = _subset(settings.subset, [e.id for e in index.entries])
        chosen = [e for e in index.entries if drawn.has(split, e.id, 0)][: _first(settings.n, limit)]
        return _checked(_official_faces(settings, chosen, labels_needed), {}, settings, split)
    unsplit = {} if split == "all" else index.unsplit
    if len(unsplit) == len(index.entries):
        reason = next(iter(unsplit.values()))
        raise UserError(f"data.split={split}: {reason}; copy the official lists into data.root, or set data.split=all")
    chosen = [e for e in index.entries if split in ("all", e.split)][: _first(settings.n, limit)]
    return _checked(_official_faces(settings, chosen, labels_needed), unsplit, settings, split)


def _helen(settings: config.HelenData, split: str, labels_needed: bool, limit: int | None) -> Data:
    entries = index_helen(Path(settings.root).expanduser(), labels_needed)
    parts = {e.id: e.part for e in entries}
    if settings.val == "held_out":
        parts |= dict.fromkeys(held_out(entries), "val")
    elif split == "val":
        split = "test"
    return _landmarked(settings, split, HelenFaces(entries, settings.crop, settings.allow_mask_resize), parts, limit)


def _landmarked(
    settings: config.LapaData | config.HelenData,
    split: str,
    faces: LandmarkedFaces,
    parts: Mapping[str, str],
    limit: int | None,
) -> Data:
    """``parts``: id -> part that it belongs to."""
    if settings.subset is not None:
        drawn = _subset(settings.subset, faces.ids)
        chosen = [e for e in faces.entries if drawn.has(split, e.id, 0)]
    else:
        chosen = [e for e in faces.entries if split in ("all", parts[e.id])]
    return _checked(faces.keep(chosen[: _first(settings.n, limit)]), {}, settings, split)


def _official_faces(settings: config.CelebAMaskHQData, chosen: list, labels_needed: bool) -> OfficialFaces:
    return OfficialFaces(chosen, settings.paint_order, labels_needed, settings.allow_mask_resize)


def _checked(faces: FileFaces, broken: Mapping[str, str], settings: config.PlacedData, split: str) -> Data:
    """Everything read once; ``broken``: what is known to be unusable before (name -> reason)."""
    entries = faces.entries

    def inspect() -> tuple[str, dict[str, str]]:
        with tqdm(total=len(faces), desc=f"check {split}", unit="photo", leave=False, mininterval=0.5) as bar:
            return faces.inspect(bar.update)

    digest, bad = _inspected.get((split, faces.state()), inspect)
    bad = {**broken, **bad}
    if bad and settings.on_error == "error":
        shown = list(bad.values())[:MAX_BAD_SHOWN]
        more = [f"... and {len(bad) - MAX_BAD_SHOWN} more"] if len(bad) > MAX_BAD_SHOWN else []
        raise UserError(
            f"{len(bad)} of the samples in {settings.root} cannot be used; fix them, or set data.on_error=skip to "
            f"leave them out (they are recorded):",
            *shown,
            *more,
        )
    faces = faces.keep(e for e in entries if e.id not in bad)
    if bad and not len(faces):
        first = next(iter(bad.values()))
        raise UserError(f"data: no usable sample in split '{split}'; the first of {len(bad)} reasons: {first}")
    _not_empty(faces, settings, split)
    return Data(faces, digest, bad, len(entries))


def _not_empty(faces, settings: config.DataConfig, split: str) -> None:
    if not len(faces):
        rule = getattr(settings, "split_rule", None)
        ways = f"data.split_rule (by {rule.by}, modulo {rule.modulo})" if rule else "the official partition"
        raise UserError(
            f"data: no usable sample in split '{split}'; {ways} selects none; set data.split=all or another rule"
        )


def label_space(settings: config.DataConfig) -> LabelSpace:
    """The space of a data set's labels, known before any of it is read."""
    return space(getattr(settings, "label_space", CELEBAMASK.name))


def new_parser(settings: config.ParserConfig, label_space: LabelSpace, input_size: int):
    """(model, card) to be trained: a fresh architecture, or the weights of ``parser.checkpoint`` to start from.

    Those of ``parser.pretrained`` enter a fresh architecture, except for the head.

    Raises:
        UserError: no architecture is named, or the start weights are of another architecture or label space.
    """
    if settings.backend != "torch":
        raise UserError(f"parser.backend={settings.backend} computes and cannot be trained; drop it")
    if settings.precision != "float32":
        raise UserError(
            f"parser.precision={settings.precision} is that of a trained parser; set train.precision instead"
        )
    if settings.input_size is not None:
        raise UserError(f"parser.input_size={settings.input_size} is that of a trained parser; set train.size instead")
    if settings.checkpoint is not None:
        model, card, _ = trained_parser(settings)
        if card.label_space != label_space.name:
            raise UserError(
                f"parser.checkpoint was trained for label space '{card.label_space}', the data are '{label_space.name}'"
            )
        return model, dataclasses.replace(card, input_size=input_size, training={})
    if settings.name is None:
        raise UserError("no parser to train: set parser=fastscnn_lite, or parser.checkpoint=FOLDER to start from one")
    card = ParserCard.of_kind(settings.name, label_space.name, input_size)
    card = dataclasses.replace(card, options=dict(settings.options))
    model = build_parser(settings.name, classes=label_space.n, **card.options)
    if settings.pretrained is not None:
        start = _starts(settings.name).start_from if _starts(settings.name) else start_from
        start(model, settings.name, settings.pretrained)
    return model, card


def _starts(name: str):
    """The module that starts ``name`` from ImageNet weights; ``None``: a folder of the hub's layout.

    Imported late: torchvision and timm take a third of the start-up, and few commands need them.
    """
    if name.startswith("segface_"):
        from semfacediff.parsing.segface import pretrained

        return pretrained
    if name.startswith(FPN):
        from semfacediff.parsing import fpn

        return fpn
    return None


def start_weights(settings: config.ParserConfig) -> str | None:
    """SHA-256 of what :func:`new_parser` starts from; ``None`` for a fresh parser."""
    if settings.pretrained is not None:
        if starts := _starts(settings.name):
            return starts.start_digest(settings.name, settings.pretrained)
        return start_digest(settings.name, settings.pretrained)
    return trained_parser(settings)[2] if settings.checkpoint is not None else None


def course(settings: config.ParserTraining, steps_per_epoch: int) -> Course:
    """The optimiser, its rates and the end of a training, as ``optim=`` and ``train=`` say."""
    optim, train = settings.optim.model_dump(exclude={"name"}), settings.train
    if settings.optim.name == "adam_then_sgd":
        return Phased(PlateauSettings(**optim, max_epochs=train.epochs))
    return Scheduled(AdamWSettings(**optim), train.epochs, steps_per_epoch, train.early_stopping)


def or_shipped(settings: config.ParserConfig) -> config.ParserConfig:
    """``settings``; those that name no checkpoint and no other architecture, with the shipped parser's folder."""
    unnamed = settings.checkpoint is None and settings.name in (None, SHIPPED)
    folder = default_parser() if unnamed else None
    return settings.model_copy(update={"checkpoint": str(folder)}) if folder else settings


def trained_parser(settings: config.ParserConfig):
    """(model, card, digest) of ``parser.checkpoint``: a checkpoint folder, a training run, or a published parser.

    Raises:
        UserError: not there, damaged, of another architecture than ``parser=`` names, or not of ``parser.backend``.
    """
    place, onnx = resolve(settings.checkpoint), settings.backend == "onnx"
    said = {"label_space": settings.label_space, "input_size": settings.input_size}
    if place.is_file():
        if onnx:
            raise UserError(f"parser.backend=onnx: {place} is a file; name the folder that semfacediff export wrote")
        model, card = load_published(settings.name, place, **said)
        _same_options(settings, card, place)
        return model, card, file_digest_with(place, card)
    model, card = load_onnx(place) if onnx else load_parser(place, **said)
    if settings.name is not None and settings.name != card.name:
        raise UserError(f"parser={settings.name} contradicts {place}, which holds '{card.name}'; drop one of the two")
    _same_options(settings, card, place)
    return model, card, checkpoint_digest(place, ONNX if onnx else WEIGHTS, **said)


def precision(settings: config.ParserConfig) -> torch.dtype:
    """In what torch computes a trained parser."""
    return getattr(torch, settings.precision)


def _same_options(settings: config.ParserConfig, card: ParserCard, path: Path) -> None:
    if settings.options and settings.options != card.options:
        raise UserError(
            f"parser.options={settings.options} contradicts {path}, which has {card.options}; drop one of the two"
        )


def parser(settings: config.ParserConfig, data_space: LabelSpace, on: torch.device) -> tuple[Parser, dict]:
    """The parser to evaluate with, and its facts for the record (name, digest, label space, input size, backend).

    Without a checkpoint ``name: null`` and ``parser=face_lite`` mean the parser that ships with the package.

    Raises:
        UserError: none is named, or its checkpoint cannot be used.
    """
    if settings.name == "ground_truth":
        return GroundTruthParser(data_space), {"name": "ground_truth", "label_space": data_space.name}
    if settings.name == "precomputed":
        root = Path(settings.root).expanduser()
        return PrecomputedParser(root, data_space), {"name": "precomputed", "label_space": data_space.name}
    settings = or_shipped(settings)
    if settings.checkpoint is None:
        raise UserError(
            "no trained parser: set parser.checkpoint=FOLDER (a run of train_parser.py), or parser=ground_truth, or "
            "parser=precomputed parser.root=DIR"
        )

    def trained() -> tuple[ModelParser, dict]:
        model, card, digest = trained_parser(settings)
        fold_batch_norms(model.eval())
        facts = {"name": card.name, "digest": digest, "label_space": card.label_space, "input_size": card.input_size}
        if exported := card.training.get("exported"):
            facts["exported_from"] = exported["from_digest"]
        if "read_from" in card.training:
            facts["read_from"] = card.training["read_from"]
        return ModelParser(model, card, on, precision(settings)), facts | {"backend": settings.backend}

    return _parser.get((settings, on, checkpoint_state(settings.checkpoint)), trained)


def editor(
    settings: config.AnyEditor,
    on: torch.device,
    weights: config.WeightsConfig | None = None,
    runtime: config.RuntimeConfig | None = None,
) -> tuple[Editor, dict]:
    """The editor that ``editor=`` names, and its facts for the record: its name; for a model also the digest of its
    weights, what beside the configuration determines its results, and why they are not comparable (``doubts``).

    Args:
        weights, runtime: for editors with a model; without them it is looked for in the hub's cache only.

    Raises:
        UserError: its weights or files are not there.
    """
    if isinstance(settings, config.SCADMEditor):
        from semfacediff.editing.reference import reference_editor  # an editor that joins two stages

        return reference_editor(settings, on, bool(runtime and runtime.diffusion.compile))
    if isinstance(settings, config.InpaintEditor):
        return _inpaint_editor(settings, on, weights, runtime)
    if settings.name == "identity":
        return Identity(), {"name": "identity"}
    if settings.name == "recolor":
        return Recolor(settings.no_colour, settings.strength), {"name": "recolor"}
    root = Path(settings.root).expanduser()
    return Precomputed(root), {"name": "precomputed"}


def _inpaint_editor(
    settings: config.InpaintEditor,
    on: torch.device,
    weights: config.WeightsConfig | None,
    runtime: config.RuntimeConfig | None,
) -> tuple[Editor, dict]:
    explicit = getattr(weights, settings.name, None)
    root, download = (weights.root, weights.download) if weights else (None, False)
    memory = MemoryProfile(**runtime.diffusion.model_dump()) if runtime else MemoryProfile()
    memory.check()
    files = find_pipeline(settings.name, explicit, root, download)
    files = files if settings.safety_checker else files.without("safety_checker")
    options = InpaintOptions(**settings.model_dump(exclude={"name", "safety_checker"}))
    dtype, watch = chosen_dtype(options.dtype, on), options.vae_dtype == "same"
    opened_as = (files, dtype, on, memory, watch)
    unchanged = (opened_as, files.state(dtype != torch.float32))
    shared = _pipeline.get(unchanged, lambda: SharedPipeline(*opened_as))
    made = InpaintEditor(settings.name, files, options, on, memory, shared)
    return made, {"name": settings.name, **made.facts()}


@dataclass(frozen=True)
class Metrics:
    """What an editing run measures.

    Attributes:
        each: metrics of one edit. sets: distances between all photos and all edits, if there are any to measure.
        absent: column -> why it is empty. doubts: why the run is not comparable.
    """

    each: list[Metric]
    sets: SetScores | None
    absent: dict[str, str]
    doubts: list[str]

    def identities(self) -> list[dict[str, object]]:
        """What every metric says of itself."""
        return [m.identity() for m in self.each] + (self.sets.identities() if self.sets else [])


def metrics(settings: config.Evaluation, on: torch.device) -> Metrics:
    """The metrics that ``metrics.columns`` names.

    Raises:
        MissingWeightsError: weights are absent and ``metrics.on_missing=error``.
    """
    named = {w: getattr(settings.weights, w.key) for w in PUBLIC}
    places = [Path(path).expanduser() if path else located(w, settings.weights.root) for w, path in named.items()]
    files = [path and file_state(path) for path in places]
    asked = (settings.metrics, settings.protocol, settings.weights, on)
    return _metrics.get((asked, files), lambda: _made_metrics(settings, on))


def _made_metrics(settings: config.Evaluation, on: torch.device) -> Metrics:
    columns, protocol, clip = settings.metrics.columns, settings.protocol, settings.metrics.clip.model
    weights = _MetricWeights(settings)
    each: list[Metric] = []
    for column in columns:
        if column == "lpips":
            if found := weights.find(LPIPS_ALEXNET, column):
                each.append(LPIPS(protocol, found.state, found.name, on))
        elif column == "clip":
            if found := weights.find(CLIP_VIT_B_32, column):
                each.append(CLIP(clip, found.state, found.name, on))
        elif column in _OF_PROTOCOL:
            each.append(_OF_PROTOCOL[column](protocol))
        elif column not in SET_COLUMNS:
            each.append({"seam": Seam, "geometry": GeometryShift}[column]())
    of_sets, sets = tuple(c for c in SET_COLUMNS if c in columns), None
    if of_sets and (found := weights.find(INCEPTION, *of_sets)):
        sets = SetScores(of_sets, Inception(found.state, found.name, on))
    return Metrics(each, sets, weights.absent, weights.doubts)


class _MetricWeights:
    """Weights by the configuration's policy, and what has to be said of them."""

    def __init__(self, settings: config.Evaluation):
        self.settings, self.absent, self.doubts = settings, {}, []

    def find(self, public: PublicWeights, *columns: str) -> FoundWeights | None:
        """``None`` if they are missing and the columns may stay empty."""
        places, wanted = self.settings.weights, self.settings.metrics
        where = getattr(places, public.key), places.root, places.download
        try:
            found = find_clip(wanted.clip.model, *where) if public is CLIP_VIT_B_32 else find(public, *where)
        except MissingWeightsError as e:
            if wanted.on_missing == "error":
                raise
            self.absent |= dict.fromkeys(columns, str(e))
            return None
        if not found.comparable:
            self.doubts.append(f"{', '.join(columns)}: weights {found.name} are not the public {public.files[0].file}")
        return found

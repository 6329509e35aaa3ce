"""The parser that the configuration names: to train, to start from, or to evaluate with."""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import nn

from semfacediff import config, plugins
from semfacediff.errors import UserError
from semfacediff.labels import LabelSpace
from semfacediff.parsing.checkpoint import (
    ONNX,
    WEIGHTS,
    ParserCard,
    checkpoint_digest,
    checkpoint_state,
    file_digest_with,
    load_parser,
    load_published,
    resolve,
)
from semfacediff.parsing.default import SHIPPED, default_parser, shipped_parsers
from semfacediff.parsing.folding import fold_batch_norms
from semfacediff.parsing.onnx_model import load_onnx
from semfacediff.parsing.predict import ModelParser, Parser
from semfacediff.parsing.registry import build_parser, kind
from semfacediff.sweep_cache import SweepCache


class TrainedParser(NamedTuple):
    """A parser with trained weights; ``digest``: SHA-256 of those weights."""

    model: nn.Module
    card: ParserCard
    digest: str


_parser: SweepCache[tuple[ModelParser, dict]] = SweepCache()
_judge: SweepCache[tuple[ModelParser, dict]] = SweepCache()
OF_THE_MASK = "mask"
"""``judge=mask``: the parser that made the mask."""


def new_parser(settings: config.ParserConfig, label_space: LabelSpace, input_size: int) -> tuple[nn.Module, ParserCard]:
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
        model, card, _ = open_trained(settings)
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
        _starts(settings.name).start_from(model, settings.name, settings.pretrained)
    return model, card


def _starts(name: str) -> ModuleType:
    """The module that starts ``name`` from pretrained weights."""
    module = kind(name).starts
    if module is None:
        raise UserError(f"parser.pretrained: parser={name} has none; choose a segformer, segface or fpn, or drop it")
    return importlib.import_module(module)


def start_weights(settings: config.ParserConfig) -> str | None:
    """SHA-256 of what :func:`new_parser` starts from; ``None`` for a fresh parser."""
    if settings.pretrained is not None and settings.name is not None:
        return _starts(settings.name).start_digest(settings.name, settings.pretrained)
    return open_trained(settings).digest if settings.checkpoint is not None else None


def or_shipped(settings: config.ParserConfig) -> config.ParserConfig:
    """``settings``; those that name no checkpoint and no other architecture, with the shipped parser's folder."""
    unnamed = settings.checkpoint is None and settings.name in (None, SHIPPED)
    folder = default_parser() if unnamed else None
    return settings.model_copy(update={"checkpoint": str(folder)}) if folder else settings


def open_trained(settings: config.ParserConfig) -> TrainedParser:
    """The parser of ``parser.checkpoint``: a checkpoint folder, a training run, or a published parser.

    Raises:
        UserError: not there, damaged, of another architecture than ``parser=`` names, or not of ``parser.backend``.
    """
    if settings.checkpoint is None:
        raise UserError(
            "no trained parser: set parser.checkpoint=FOLDER (a run of train_parser.py), or parser=ground_truth, or "
            "parser=precomputed parser.root=DIR"
        )
    place, onnx = resolve(settings.checkpoint), settings.backend == "onnx"
    space_name, input_size = settings.label_space, settings.input_size
    if place.is_file():
        if onnx:
            raise UserError(f"parser.backend=onnx: {place} is a file; name the folder that semfacediff export wrote")
        model, card = load_published(settings.name, place, space_name, input_size)
        _same_options(settings, card, place)
        return TrainedParser(model, card, file_digest_with(place, card))
    model, card = load_onnx(place) if onnx else load_parser(place, space_name, input_size)
    if settings.name is not None and settings.name != card.name:
        raise UserError(f"parser={settings.name} contradicts {place}, which holds '{card.name}'; drop one of the two")
    _same_options(settings, card, place)
    digest = checkpoint_digest(place, ONNX if onnx else WEIGHTS, space_name, input_size)
    return TrainedParser(model, card, digest)


def precision(settings: config.ParserConfig) -> torch.dtype:
    """In what torch computes a trained parser."""
    return getattr(torch, settings.precision)


def _same_options(settings: config.ParserConfig, card: ParserCard, path: Path) -> None:
    if settings.options and settings.options != card.options:
        raise UserError(
            f"parser.options={settings.options} contradicts {path}, which has {card.options}; drop one of the two"
        )


def open_parser(settings: config.ParserConfig, data_space: LabelSpace, on: torch.device) -> tuple[Parser, dict]:
    """The parser to evaluate with, and its facts for the record (name, digest, label space, input size, backend).

    Without a checkpoint ``name: null`` and ``parser=face_lite`` mean the parser that ships with the package.

    Raises:
        UserError: none is named, or its checkpoint cannot be used.
    """
    found = plugins.find("parser", settings.name) if settings.name and settings.checkpoint is None else None
    if isinstance(found, type):
        if not issubclass(found, Parser):
            raise UserError(
                f"parser '{settings.name}': expected a subclass of semfacediff.parsing.Parser, got {found.__name__}; "
                f"derive the class from it, or register a Kind (an architecture to train)"
            )
        return found.opened(settings, data_space)
    return _opened(or_shipped(settings), on, _parser)


def _opened(
    settings: config.ParserConfig, on: torch.device, kept: SweepCache[tuple[ModelParser, dict]]
) -> tuple[ModelParser, dict]:
    def trained() -> tuple[ModelParser, dict]:
        model, card, digest = open_trained(settings)
        fold_batch_norms(model.eval())
        facts = {"name": card.name, "digest": digest, "label_space": card.label_space, "input_size": card.input_size}
        if exported := card.training.get("exported"):
            facts["exported_from"] = exported["from_digest"]
        if "read_from" in card.training:
            facts["read_from"] = card.training["read_from"]
        return ModelParser(model, card, on, precision(settings)), facts | {"backend": settings.backend}

    state = checkpoint_state(settings.checkpoint) if settings.checkpoint else None
    return kept.get((settings, on, state), trained)


def open_judge(asked: str | None, protocol: str, mask: tuple[Parser, dict], on: torch.device) -> tuple[Parser, dict]:
    """The parser that scores edits, and its facts; those of ``mask`` itself where its parser does that.

    Without a name it is another parser that ships with the package, if the mask comes from one of these: a parser does
    not see its own mistakes. Masks of any other parser, and all of ``protocol=thesis``, are judged by their own.

    Args:
        asked: ``judge=``: ``mask``, a name of :func:`shipped_parsers`, or what ``parser.checkpoint`` takes.
        mask: what :func:`open_parser` gave.

    Raises:
        UserError: it cannot be opened.
    """
    place = _other_shipped(mask[1]) if asked is None and protocol != "thesis" else asked
    if place in (None, OF_THE_MASK):
        return mask
    shipped = shipped_parsers()
    try:
        made, facts = _opened(config.ParserConfig.trained(str(shipped.get(place, place))), on, _judge)
    except UserError as e:
        known = ", ".join([OF_THE_MASK, *shipped])
        raise UserError(f"judge={place}: expected {known} or a parser as parser.checkpoint takes it: {e}") from e
    return mask if facts["digest"] == mask[1].get("digest") else (made, facts)


def _other_shipped(mask: dict) -> str | None:
    """Name of the first shipped parser that did not make the masks; ``None``: they are of no shipped one, or it alone.

    Args:
        mask: facts of the parser that did. An export is the parser that it was made from.
    """
    digests = {name: checkpoint_digest(folder) for name, folder in shipped_parsers().items()}
    own = mask.get("exported_from", mask.get("digest"))
    if own not in digests.values():
        return None
    return next((name for name, digest in digests.items() if digest != own), None)

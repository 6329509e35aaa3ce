"""Thumbnails for the report: photos, parses and masks computed again, edits from the run's folder.

Recomputed pictures are shown only if the digests of photos, parser and masks match the record.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from tqdm import tqdm

from semfacediff import config
from semfacediff.commands.report.data import Thumbnails, recorded_data, saved_picture, thumbnail
from semfacediff.commands.report.generated import GeneratedSource, showcase_thumbnails
from semfacediff.data.selection import Data
from semfacediff.data.sizes import at_working_size
from semfacediff.editing.base import edit_name
from semfacediff.engine.prefetch import in_order, one_core_each
from semfacediff.errors import UserError
from semfacediff.parsing import Parser
from semfacediff.parsing.opening import open_parser
from semfacediff.records.folder import read_config
from semfacediff.regions import RegionRule, masks_of, task_region
from semfacediff.report.overview import data_rights
from semfacediff.report.reading import SYNTHESIS, Record
from semfacediff.report.sample_rows import Key, Pictures, extremes, group_name
from semfacediff.report.wording import Score
from semfacediff.tables.figures import overlay
from semfacediff.tasks.editing.sample_row import MASKS, digest_of_mask, edit_file
from semfacediff.types import FaceSample, to_tensor

PER_END = 40
"""Number of worst and of best samples per attribute or task."""
MAX_CHARACTERS = 36_000_000
"""Limit for all pictures together; the rest of the page stays under 4 MB."""
_SIZES_PX = ((450, 256), (800, 192), (10**9, 144))
"""(maximum number of samples, long side of a thumbnail)."""
_AMPLIFIED = 4


def pictures(records: Sequence[Record], rank: Score | None, root: Path | None, parser: Path | None) -> Pictures:
    """Thumbnails of the worst and best edits and generated faces, and of the runs' showcases.

    Args:
        root: folder of the photos; ``None`` = ``SEMFACEDIFF_DATA``. parser: as ``parser.checkpoint``, or
            ``parser.root`` for precomputed label maps; ``None`` = from the record.

    Raises:
        UserError: the photos are missing, or are not those of a run.
    """
    chosen, left_out = extremes(records, rank, PER_END), []
    px = next(size for most, size in _SIZES_PX if len(chosen) <= most)
    by_run: dict[int, list[Key]] = defaultdict(list)
    for key in chosen:
        by_run[key[0]].append(key)
    showcases = {(i, file): uri for i, r in enumerate(records) for file, uri in showcase_thumbnails(r).items()}
    panels: dict[Key, dict[str, str]] = {}
    notes: dict[Key, str] = {}
    with tqdm(total=len(chosen), desc="photos", unit="sample", disable=None) as bar:
        for i, keys in by_run.items():
            record = records[i]
            source = GeneratedSource(record, root) if record.task == SYNTHESIS else _Source.of(record, root, parser)
            left_out += [f"{records[i].id}: {why}" for why in source.doubts]
            for sample_id, found in _thumbnails(source, _by_sample(keys), px):
                for attribute, (uris, said) in found.items():
                    key = (i, sample_id, attribute)
                    panels[key], notes[key] = uris, said
                    bar.update()
    files, of, dropped = _within_budget(chosen, panels, MAX_CHARACTERS - sum(map(len, showcases.values())))
    said = f"The {PER_END} worst and the {PER_END} best of every {group_name(records)} are shown"
    left_out.insert(
        0, said + (f" by {rank.label}." if rank else ": no score differs, so these are the first and last.")
    )
    left_out += (
        [f"{dropped} less extreme samples are shown without photos to limit the size of the page."] if dropped else []
    )
    rights = dict.fromkeys(data_rights(records[i]) for i in sorted({*by_run, *(i for i, _ in showcases)}))
    return Pictures(files, of, notes, showcases, " ".join(rights) or "These runs edited nothing.", left_out)


def _by_sample(keys: list[Key]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for _, sample_id, attribute in keys:
        found[sample_id].append(attribute)
    return dict(sorted(found.items()))


def _thumbnails(
    source: "_Source | GeneratedSource", samples: dict[str, list[str]], px: int
) -> Iterator[tuple[str, dict[str, tuple[dict[str, str], str]]]]:
    """(sample, attribute -> (panel -> data URI, notes)) of all samples, one sample per core."""

    def made(item: tuple[str, list[str]]) -> tuple[str, dict[str, tuple[dict[str, str], str]]]:
        sample_id, attributes = item
        shown, uris = source.shown(sample_id, attributes), {}
        for picture in (picture for one in shown.values() for picture in one.panels.values()):
            if id(picture) not in uris:  # edits of one photo share it and its parse
                uris[id(picture)] = thumbnail(picture, px)
        named = {a: {name: uris[id(picture)] for name, picture in one.panels.items()} for a, one in shown.items()}
        return sample_id, {a: (named[a], "; ".join(one.notes)) for a, one in shown.items()}

    with one_core_each(True) as (pool, ahead):
        yield from in_order(pool, made, samples.items(), ahead)


def _within_budget(
    order: list[Key], panels: dict[Key, dict[str, str]], most: int
) -> tuple[dict[str, str], dict[Key, dict[str, str]], int]:
    """(name -> data URI, sample -> panel -> name, samples left out); the first of ``order`` come first."""
    names: dict[str, str] = {}
    of: dict[Key, dict[str, str]] = {}
    characters, dropped = 0, 0
    for key in order:
        found = panels.get(key, {})
        new = {uri for uri in found.values() if uri not in names}
        size = sum(map(len, new))
        if characters + size > most:
            dropped += 1
            continue
        characters += size
        of[key] = {panel: names.setdefault(uri, f"p{len(names)}") for panel, uri in found.items()}
    return {name: uri for uri, name in names.items()}, of, dropped


class _Source:
    """Photos, parser and rows of one run.

    Args:
        parser: ``None`` where it is not to be had. doubts: why, and what else is not shown.
    """

    def __init__(self, record: Record, data: Data, parser: Parser | None, doubts: list[str]):
        self.record, self.faces, self.parser, self.doubts = record, data.faces, parser, doubts
        self.place = {id_: i for i, id_ in enumerate(data.faces.ids)}
        self.space = parser.label_space if parser else data.label_space
        self.rule = RegionRule(**record.config["region"])
        self.reparses = (record.config.get("cascade") or {}).get("reparse", True)
        rows = record.samples.assign(sample_id=record.samples["sample_id"].astype(str))
        self.rows = rows.set_index(["sample_id", "attribute"]).sort_index()

    @classmethod
    def of(cls, record: Record, root: Path | None, parser: Path | None) -> "_Source":
        wanted = _parser_settings(record, parser)
        data = recorded_data(record, root, wanted.name == "ground_truth")
        try:
            found = _parser(record, wanted, data)
        except UserError as e:
            return cls(record, data, None, [f"no parse and no masks: {e}"])
        return cls(record, data, found, [])

    def shown(self, sample_id: str, attributes: list[str]) -> dict[str, Thumbnails]:
        """Panels of the edits of one photo."""
        if sample_id not in self.place:
            return {a: Thumbnails({}, ["the data set has no such photo"]) for a in attributes}
        sample = self.faces[self.place[sample_id]]
        photo = at_working_size(sample.photo, self.record.config.get("working_size"))
        parses: dict[tuple[bytes, bytes], tuple[torch.Tensor, np.ndarray]] = {}
        return {a: self._edit(sample, photo, a, parses) for a in attributes}

    def _edit(self, sample: FaceSample, photo: np.ndarray, name: str, parses: dict) -> Thumbnails:
        row = self.rows.loc[[(sample.id, name)]].iloc[0]
        notes: list[str] = []
        given = self._given(sample.id, name, photo)
        panels = {"photo": given}
        parsed = self._parsed(sample, given if self.reparses else photo, given, parses)
        if parsed is not None:
            labels, panels["parse"] = parsed
            panels |= self._masks(row, name, labels, notes)
        file_name = edit_name(name, 1) if "repeat" in self.rows else name  # of several edits the first
        edit = self._saved(file_name, sample.id)
        if edit is None:
            notes.append("no edit" if row["status"] != "ok" else f"edits/{file_name}/{sample.id}.png is missing")
        elif edit.shape != given.shape:
            notes.append("the edit differs from the photo in size")
        else:
            panels["edit"] = edit
            difference = np.abs(edit.astype(np.int16) - given).max(axis=2) * _AMPLIFIED
            panels["difference"] = np.minimum(difference, 255).astype(np.uint8)
        return Thumbnails(panels, notes)

    def _given(self, sample_id: str, name: str, photo: np.ndarray) -> np.ndarray:
        """Input of the edit: the photo, or in a cascade the result of the previous stages."""
        if "stage" not in self.rows:
            return photo
        stage = self.rows.at[(sample_id, name), "stage"]
        own = self.rows[self.rows.index.get_level_values("sample_id") == sample_id].droplevel("sample_id")
        for earlier in own[own["stage"] < stage].sort_values("stage", ascending=False).index:
            edit = self._saved(earlier, sample_id)
            if edit is not None:
                return edit
        return photo

    def _saved(self, name: str, sample_id: str) -> np.ndarray | None:
        return saved_picture(edit_file(self.record.folder, name, sample_id))

    def _parsed(
        self, sample: FaceSample, photo: np.ndarray, given: np.ndarray, parses: dict[tuple, tuple]
    ) -> tuple[torch.Tensor, np.ndarray] | None:
        """(labels of ``photo``, ``given`` with them over it); cached for all edits of them."""
        if self.parser is None:
            return None
        key = photo.tobytes(), given.tobytes()
        if key not in parses:
            labels = self.parser.before(sample, to_tensor(photo))
            parses[key] = labels, overlay(given, labels.numpy(), self.parser.label_space)
        return parses[key]

    def _masks(self, row: pd.Series, name: str, labels: torch.Tensor, notes: list[str]) -> dict[str, np.ndarray]:
        attribute = name.split("_", 1)[1] if "stage" in self.rows else name
        kind = row.get("kind")
        region = task_region(labels, attribute, self.space, kind if isinstance(kind, str) else None)
        masks = masks_of(region, self.rule)
        found = {kind: getattr(masks, kind) for kind in MASKS}
        if any(digest_of_mask(mask) != row.get(f"mask_{kind}") for kind, mask in found.items()):
            notes.append("the masks computed here differ from the record's, so they are not shown")
            return {}
        return {kind: np.rint(255 * mask[0].numpy()).astype(np.uint8) for kind, mask in found.items()}


def _parser_settings(record: Record, place: Path | None) -> config.ParserConfig:
    written = read_config(record.folder).get("parser") if record.config_text else {}
    # Keys that an older record lacks have today's defaults.
    today = yaml.safe_load((config.repository() / "conf" / "parser" / "checkpoint.yaml").read_text())
    plain = today | (written if isinstance(written, dict) else {})
    if place is not None:
        plain["root" if plain["name"] == "precomputed" else "checkpoint"] = str(place)
    for key in ("checkpoint", "root"):
        if (
            plain[key]
            and not Path(plain[key]).exists()
            and (config.results(config.repository()).parent / plain[key]).exists()
        ):
            plain[key] = str(config.results(config.repository()).parent / plain[key])
    return config.checked(config.ParserConfig, plain)


def _parser(record: Record, wanted: config.ParserConfig, data: Data) -> Parser:
    known = record.run.get("parser") or {}
    parser, facts = open_parser(wanted, data.label_space, torch.device("cpu"))
    if facts.get("digest") != known.get("digest"):
        raise UserError("the parser found is not the run's; give --parser FOLDER")
    return parser

"""Generate from label maps and score: the synthesis benchmark, one photo at a time."""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from semfacediff import config
from semfacediff.engine.prefetch import read_ahead
from semfacediff.errors import UserError
from semfacediff.labels import conversion
from semfacediff.metrics.base import declared
from semfacediff.metrics.generated import Diversity, FrameSSIM, LayoutFit
from semfacediff.metrics.opening import Metrics
from semfacediff.parsing import ModelParser
from semfacediff.records.samples import ERROR, OK
from semfacediff.records.showcase import FIRST_STAGE, NOISE, PHOTO, RECONSTRUCTION
from semfacediff.records.writing import write_bytes
from semfacediff.synthesis.latents import at_size
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.tasks.parsing.scores import PhotoScorer
from semfacediff.tasks.synthesis.grids import encoded_png, read_png
from semfacediff.types import Faces, FaceSample, to_uint8

_TIMED = 3
"""Photos a step count: the fewest whose median bears one that something else on the machine slowed down. At full width
without an accelerator a photo of 200 steps takes some six minutes."""
AVERAGING = "counts pooled over photos, then IoU a class, mean over classes in truth or prediction, background included"


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is measured; ``None`` or absent where it was not asked for, or its weights are not there."""

    ssim: FrameSSIM | None
    diversity: Diversity | None
    judged: bool
    of_sets: Metrics

    def identities(self, judge: dict, image_size: int) -> list[dict]:
        """What every score depends on.

        Args:
            judge: facts of the judging parser. image_size: of the model.
        """
        own = [m.identity() for m in (self.ssim, LayoutFit(), self.diversity) if m]
        sets = self.of_sets.sets.identities() if self.of_sets.sets else []
        sets = [s | {"input": f"8-bit RGB at {image_size} px, photos and generated photos"} for s in sets]
        return own + sets + ([_judgement(judge, image_size)] if self.judged else [])


def _judgement(judge: dict, image_size: int) -> dict:
    return declared(
        "miou, pixel_accuracy",
        implementation="semfacediff",
        version="1",
        bounds=[0, 1],
        unit="1",
        higher_is_better=True,
        resize=f"photos of {image_size} px to the parser's {judge['input_size']} px, label maps back",
        weights=judge["digest"],
        parser=judge["name"],
        averaging=AVERAGING,
    )


class SynthesisBench:
    """Makes and scores photos, one sample at a time: a result depends on its own sample alone.

    Args:
        faces: the whole data set. ids: of the label maps that this run takes: all of them, or its part.
        folder: where ``samples/`` goes.
    """

    def __init__(
        self,
        settings: config.SynthesisEvaluation,
        faces: Faces,
        ids: Sequence[str],
        synthesizer: Synthesizer,
        judge: ModelParser,
        measures: Measures,
        folder: Path,
    ):
        self.settings, self.faces, self.ids = settings, faces, list(ids)
        self.synthesizer, self.measures, self.folder = synthesizer, measures, folder
        self.size, self.scorer = synthesizer.model.options.image_size, PhotoScorer(judge, synthesizer.space)
        self.table = conversion(faces.label_space, synthesizer.space).astype(np.uint8)
        self.tasks = [*([PHOTO] if measures.judged else []), *settings.synthesis.tasks]
        self._place = {id_: i for i, id_ in enumerate(faces.ids)}

    @property
    def begins(self) -> bool:
        """Whether the first label map of all is among its own; that part shows and times for all parts of a run."""
        return self._place[self.ids[0]] == 0

    def keys(self) -> list[tuple[str, str]]:
        """(task, id) of every row."""
        return [(task, id_) for task in self.tasks for id_ in self.ids]

    def rows(self, places: Sequence[int]) -> Iterator[dict]:
        """Rows of places in :meth:`keys`."""
        keys = self.keys()
        asked = [keys[place] for place in places]
        for (task, _), sample in zip(asked, self._samples([id_ for _, id_ in asked]), strict=True):
            try:
                yield {"task": task, "sample_id": sample.id, "status": OK, **self._row(task, sample)}
            except Exception as e:  # one bad sample must not cost the others
                failed = {"status": ERROR, "error": f"{type(e).__name__}: {e}"}
                yield {"task": task, "sample_id": sample.id, **failed}

    def _samples(self, ids: Sequence[str]) -> Iterator[FaceSample]:
        return read_ahead(self.faces, [self._place[id_] for id_ in ids], self.settings.runtime.decoders)

    def prepared(self, sample: FaceSample) -> tuple[np.ndarray, np.ndarray]:
        """Photo uint8 ``[S, S, 3]`` and labels uint8 ``[S, S]`` in the model's space, as the model sees them."""
        photo, labels = at_size(sample, self.size)
        return photo, self.table[labels]

    def photos(self, ids: Sequence[str]) -> Iterator[np.ndarray]:
        """uint8 ``[S, S, 3]``: photos as the model sees them."""
        return (self.prepared(sample)[0] for sample in self._samples(ids))

    def saved(self, task: str, ids: Sequence[str]) -> Iterator[np.ndarray]:
        """uint8 ``[S, S, 3]``: what was made, from the disk.

        Raises:
            UserError: a file is gone.
        """
        for file in (self.file(task, id_) for id_ in ids):
            if (photo := read_png(file)) is None:
                raise UserError(f"{file}: a generated photo that was scored is gone; start in a new folder")
            yield photo

    def scored(self, task: str, sample_id: str) -> np.ndarray | None:
        """uint8 ``[S, S, 3]``: what a row is about; made once more where another part of the run keeps it.

        ``None`` of a task that the run has not.
        """
        if task not in self.tasks:
            return None
        kept = read_png(self.file(task, sample_id))
        return self._made(task, self.faces[self._place[sample_id]], 0) if kept is None else kept

    def file(self, task: str, sample_id: str) -> Path:
        """Where a generated photo is kept."""
        return self.folder / "samples" / task / f"{sample_id}.png"

    def _row(self, task: str, sample: FaceSample) -> dict:
        photo, labels = self.prepared(sample)
        start = time.perf_counter()
        made = photo if task == PHOTO else self._made(task, sample, 0)
        row = {"latency_s": None if task == PHOTO else time.perf_counter() - start}
        ssim = self.measures.ssim
        row["ssim"] = ssim.score(photo, made) if ssim and task in (FIRST_STAGE, RECONSTRUCTION) else None
        row["layout_r2"] = LayoutFit().score(made, labels)
        row["layout_r2_other"] = LayoutFit().score(made, self._next_labels(sample)) if len(self.faces) > 1 else None
        row["lpips_diversity"] = self._diversity(sample, made) if task == NOISE else None
        if self.measures.judged:
            counts = self.scorer.row(FaceSample(sample.id, made, labels))
            row |= {name: counts[name] for name in ("miou", "pixel_accuracy", "confusion")}
        if task != PHOTO:
            write_bytes(self.file(task, sample.id), encoded_png(made))
        return row

    def _next_labels(self, sample: FaceSample) -> np.ndarray:
        """Of the next face of the data set, as the model sees them."""
        return self.prepared(self.faces[(self._place[sample.id] + 1) % len(self.faces)])[1]

    def _made(self, task: str, sample: FaceSample, draw: int) -> np.ndarray:
        s = self.synthesizer
        if task == NOISE:
            return to_uint8(s.generate([sample], draw).images[0])
        remake = {FIRST_STAGE: s.autoencode, RECONSTRUCTION: s.reconstruct}[task]
        return to_uint8(remake([sample]).images[0])

    def _diversity(self, sample: FaceSample, first: np.ndarray) -> float | None:
        g = self.settings.synthesis
        if self.measures.diversity is None or self._place[sample.id] >= g.diversity_photos:
            return None
        others = [self._made(NOISE, sample, draw) for draw in range(1, g.diversity_samples)]
        return self.measures.diversity.score([first, *others])

    def latencies(self) -> list[dict]:
        """Seconds for one photo of the first label map by number of steps, decoding included: the median of some.

        One photo of a single step warms up.
        """
        times: list[dict] = []
        sample = self.faces[0]
        for steps in self.settings.synthesis.latency_steps:
            options = dataclasses.replace(self.synthesizer.options, steps=steps, sampler="ddim")
            timed = Synthesizer(self.synthesizer.model, options, self.synthesizer.space, self.faces.label_space)
            if not times:
                warm = dataclasses.replace(options, steps=1)
                Synthesizer(timed.model, warm, timed.space, self.faces.label_space).generate([sample])
            seconds = statistics.median(_generation_s(timed, sample) for _ in range(_TIMED))
            taken_steps = len(options.timesteps())
            per_step = seconds / taken_steps
            times.append({"steps": taken_steps, "seconds": seconds, "seconds_per_step": per_step, "photos": _TIMED})
        return times


def _generation_s(synthesizer: Synthesizer, sample: FaceSample) -> float:
    start = time.perf_counter()
    synthesizer.generate([sample])
    return time.perf_counter() - start

"""Scoring beside the next edits: the same numbers, bounded memory, nothing twice, nothing lost."""

import json
import multiprocessing
import resource
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from semfacediff import config
from semfacediff.data.toy import ToyFaces
from semfacediff.editing.apply import EditSpec
from semfacediff.editing.identity import Identity
from semfacediff.editing.prompts.words import Words
from semfacediff.engine.prefetch import in_order, one_core_each, torch_threads
from semfacediff.hydra_app import composed
from semfacediff.metrics.fidelity import PSNR, SSIM
from semfacediff.metrics.mask_iou import MaskIoU
from semfacediff.metrics.opening import Metrics
from semfacediff.parsing import GroundTruthParser, ModelParser, load_parser
from semfacediff.tasks.editing.bench import EditingBench, Plan
from semfacediff.tasks.editing.sample_row import Parsers

REPOSITORY = Path(__file__).resolve().parents[2]
ATTRIBUTES = ("hair", "lips", "skin")
VARYING = ("latency_s", "peak_memory_mib")


class Alive:
    """How many things are alive, and how many were at most."""

    def __init__(self):
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, thing) -> None:
        self._count(1)
        weakref.finalize(thing, self._count, -1)

    def _count(self, change: int) -> None:
        with self._lock:
            self.now += change
            self.most = max(self.most, self.now)


class Rippling(Identity):
    """Disturbs every pixel."""

    def __init__(self):
        self.batches, self.edits = [], Alive()

    def edit(self, requests):
        self.batches.append([(r.sample_id, r.attribute) for r in requests])
        edits = [(r.photo + 0.02 * torch.sin(torch.arange(r.photo.shape[-1]) * 1.7)).clamp(0, 1) for r in requests]
        for edit in edits:
            self.edits.add(edit)
        return edits


class Watched(ToyFaces):
    """Drawn faces whose samples are counted."""

    def __init__(self, n: int):
        super().__init__(n, 32)
        self.samples = Alive()

    def __getitem__(self, i):
        sample = super().__getitem__(i)
        self.samples.add(sample)
        return sample


class Counting(GroundTruthParser):
    def __init__(self):
        super().__init__(ToyFaces.label_space)
        self.parsed = []

    def before(self, sample, photo):
        self.parsed.append(sample.id)
        return super().before(sample, photo)


def bench(folder: Path, faces, editor, parser=None, *words: str) -> EditingBench:
    shared = ["data.count=1", f"attributes=[{','.join(ATTRIBUTES)}]", "metrics=no_weights", *words]
    settings = config.typed(composed("evaluate", shared, REPOSITORY), config.EditingEvaluation)
    cells = [EditSpec(a, Words(settings.prompts.texts[a])) for a in ATTRIBUTES]
    metrics = Metrics([SSIM("strict"), PSNR("strict"), MaskIoU("strict")])
    parser = parser or Counting()
    return EditingBench(settings, faces, Parsers(parser, parser), editor, metrics, folder, Plan(cells))


def rows(made: EditingBench) -> list[str]:
    """As they lie in the log, less what differs every time."""
    lines = [json.loads(line) for line in (made.folder / "samples.jsonl").read_text().splitlines()]
    return [json.dumps({k: v for k, v in row.items() if k not in VARYING}) for row in lines]


def edits(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted((folder / "edits").rglob("*.png"))}


@pytest.fixture
def three_cores():
    with torch_threads(3):
        yield


@pytest.mark.parametrize("batch", [1, 4])
def test_numbers_and_edits_are_those_of_one_after_another(tiny_checkpoint, tmp_path, three_cores, batch):
    model, card = load_parser(tiny_checkpoint)
    made = {}
    for overlap in ("true", "false"):
        words = (f"runtime.overlap={overlap}", f"runtime.batch_size={batch}")
        parser = ModelParser(model, card, torch.device("cpu"))
        made[overlap] = bench(tmp_path / overlap, ToyFaces(5, 48), Rippling(), parser, *words)
        made[overlap].run()
    assert rows(made["true"]) == rows(made["false"])
    assert edits(tmp_path / "true") == edits(tmp_path / "false")
    assert made["true"].editor.batches == made["false"].editor.batches
    assert torch.get_num_threads() == 3, "as it was"


def test_each_photo_is_parsed_once_and_batches_are_full(tmp_path, three_cores):
    words = ("runtime.batch_size=5", "protocol=thesis", "working_size=32")  # under which every region is edited
    made = bench(tmp_path, ToyFaces(4, 32), Rippling(), None, *words)
    made.run()
    assert sorted(made.parser.parsed) == sorted(made.faces.ids)
    assert [len(batch) for batch in made.editor.batches] == [5, 5, 2]
    assert {a for _, a in made.editor.batches[0]} == set(ATTRIBUTES), "of whatever attributes"


@pytest.mark.slow
def test_what_is_in_memory_does_not_grow_with_the_photos(tmp_path, three_cores):
    most = {}
    for n in (8, 60):
        made = bench(tmp_path / str(n), Watched(n), Rippling(), None, "runtime.batch_size=4")
        made.run()
        assert len(made.log.rows) == 3 * n
        most[n] = (made.faces.samples.most, made.editor.edits.most)
    waiting = 2 * 3
    assert most[60][1] <= 4 + waiting + 1 + 3, "a batch, what waits, and what the three workers hold"
    assert most[60][0] <= 16, "read ahead, parsed ahead, and those whose edits wait"


def peak_mib(folder: Path, n: int) -> float:
    """Most memory of a process that does nothing else."""
    with torch_threads(3):
        bench(folder, ToyFaces(n, 64), Rippling(), None, "runtime.batch_size=4").run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
def test_ten_thousand_photos_need_no_more_memory_than_a_hundred(tmp_path):
    peaks = []
    for n in (100, 10_000):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
            peaks.append(own.submit(peak_mib, tmp_path / str(n), n).result())
    # Of each of the 30,000 edits the key is kept; at the end there is the table of all.
    assert 0 < peaks[1] - peaks[0] < 40, "MiB"


def test_what_was_made_before_an_interruption_is_kept(tmp_path, three_cores):
    class Interrupted(Rippling):
        def edit(self, requests):
            if len(self.batches) == 7:
                raise KeyboardInterrupt
            return super().edit(requests)

    made = bench(tmp_path, ToyFaces(6, 32), Interrupted(), None, "runtime.batch_size=1")
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert len(rows(made)) == 7
    made.log.close()
    again = bench(tmp_path, ToyFaces(6, 32), Rippling(), None, "runtime.batch_size=1")
    again.run()
    assert len(again.editor.batches) + 7 == len(again.log.rows)


def test_results_come_in_order_and_before_what_stopped_them():
    def items():
        yield from range(5)
        raise OSError("no more")

    with one_core_each(True) as (pool, _):
        squares = in_order(pool, lambda i: i * i, items(), ahead=3)
        assert [next(squares) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(OSError, match="no more"):
            next(squares)


def test_items_are_drawn_as_they_are_needed():
    drawn = []
    with one_core_each(True) as (pool, _):
        squares = in_order(pool, lambda i: i * i, (drawn.append(i) or i for i in range(9)), ahead=2)
        assert [next(squares), len(drawn)] == [0, 3]
        assert [next(squares), len(drawn)] == [1, 4]
        assert list(squares) == [4, 9, 16, 25, 36, 49, 64]

"""Training batches whose content depends on (seed, epoch, step) alone: not on workers, and not on interruptions."""

import copy
import errno
import functools
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from semfacediff.data.augment import AT_OWN_SIZE, RECIPES, flip, landmarks_of, resized
from semfacediff.data.augment.on_device import ce7454_batch, drawn_row
from semfacediff.data.augment.paste import accessories, fits, pasted
from semfacediff.data.sampling import epoch_batches, repeat_factors, steps_per_epoch
from semfacediff.errors import UserError
from semfacediff.labels import LONG_TAIL
from semfacediff.seeding import derive_seed
from semfacediff.types import Faces

__all__ = ["Key", "TrainingView", "epoch_batches", "loader", "planned", "steps_per_epoch"]

Key = tuple[int, ...]
"""(epoch, sample index), and for the second and further times of a sample in an epoch a third: 1, 2, ..."""

_DONORS_TRIED = 4
_SHARED = Path("/dev/shm")


class TrainingView(Dataset):
    """Photos and labels at the training size; index is a :data:`Key`.

    Items: photo ``[3, S, S]`` in 0..255, uint8 (float32 under recipes that end in floats: ``ce7454``); labels uint8
    ``[S, S]``. What happens to a sample depends on (seed, epoch, sample id), and on how often it came in this epoch.

    Args:
        faces: a data set with labels.
        augment: name of one of :data:`semfacediff.data.augment.RECIPES`, or of
            :data:`semfacediff.data.augment.AT_OWN_SIZE`.
        keep_in_memory: decode and resize once, before the workers are forked; S*S*4 bytes a sample.
        paste: probability with which a sample first gets a rare accessory that it lacks (glasses, hat, earring,
            necklace; all equally often, whichever some sample has) from another sample or its mirror image. Of four
            donors drawn the first that fits is taken; if none does, the sample stays as it is.
        on_device: leave the recipe to :meth:`placed`; items then have a third part, the parameters drawn. ``ce7454``
            alone has such a form.
        landmarks: items have a third part, the landmarks float32 ``[5, 2]`` in px at the training size (NaN: none).
            Only ``none`` and ``lapa`` know how to move them.

    Raises:
        UserError: the recipe is unknown or loses the landmarks, or accessories are to be pasted whose classes the label
            space lacks.
    """

    def __init__(
        self,
        faces: Faces,
        size: int,
        augment: str,
        seed: int,
        keep_in_memory: bool = False,
        paste: float = 0.0,
        on_device: bool = False,
        landmarks: bool = False,
    ):
        if augment not in (*RECIPES, *AT_OWN_SIZE):
            known = ", ".join((*RECIPES, *AT_OWN_SIZE))
            raise UserError(f"train.augment: unknown recipe '{augment}'; choose one of {known}")
        if landmarks and augment not in ("none", *AT_OWN_SIZE):
            raise UserError(
                f"train.augment={augment} does not move the landmarks that this parser is given; set it to none or "
                f"{', '.join(AT_OWN_SIZE)}"
            )
        if paste and not accessories(faces.label_space):
            raise UserError(
                f"train.paste_accessories: label space '{faces.label_space.name}' has none of {', '.join(LONG_TAIL)}; "
                f"set it to 0"
            )
        if on_device and augment != "ce7454":
            raise ValueError(f"recipe '{augment}' has no form for whole batches on the device")
        self.faces, self.size, self.augment, self.seed, self.paste = faces, size, augment, seed, paste
        self.on_device, self.landmarks = on_device, landmarks
        self.ids = faces.ids
        self._kept = self._decode_all() if keep_in_memory else None
        self._donors = self._find_donors() if paste else {}

    def __len__(self) -> int:
        return len(self.faces)

    def unaugmented(self) -> "TrainingView":
        """The same samples as they are, sharing what is kept in memory."""
        plain = copy.copy(self)
        plain.augment, plain.paste, plain.on_device, plain.landmarks = "none", 0.0, False, False
        return plain

    @functools.cached_property
    def presence(self) -> np.ndarray:
        """bool ``[n, classes]``: which classes a sample shows at the training size.

        Computed once; unless samples are kept in memory this reads them all.
        """
        with ThreadPoolExecutor(2) as pool:
            rows = list(pool.map(lambda i: self._classes(self._plain(i)[1]), range(len(self))))
        return np.stack(rows)

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        n = self.faces.label_space.n
        return cv2.calcHist([labels], [0], None, [n], [0, n]).ravel() > 0

    def _find_donors(self) -> dict[str, np.ndarray]:
        space = self.faces.label_space
        having = {c: np.flatnonzero(self.presence[:, space.index(c)]) for c in accessories(space)}
        return {c: donors for c, donors in having.items() if donors.size}

    def _decoded(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sample = self.faces[i]
        height, width = sample.photo.shape[:2]
        marks = landmarks_of(sample) * np.array([self.size / width, self.size / height], np.float32)
        return *resized(sample.photo, sample.label_map, self.size), marks

    def _decode_all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, s = len(self), self.size
        photos, labels = np.empty((n, s, s, 3), np.uint8), np.empty((n, s, s), np.uint8)
        marks = np.empty((n, 5, 2), np.float32)

        def keep(i: int) -> None:
            photos[i], labels[i], marks[i] = self._decoded(i)

        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(keep, range(n)):
                pass
        return photos, labels, marks

    def _plain(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Photo uint8 ``[S, S, 3]``, labels uint8 ``[S, S]`` and landmarks of sample ``i``, not to be written to."""
        if self._kept is None:
            return self._decoded(i)
        photos, labels, marks = self._kept
        return photos[i], labels[i], marks[i]

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, ...]:
        epoch, i, *again = key
        rng = np.random.default_rng(derive_seed(self.seed, "augment", epoch, self.ids[i], *again))
        if self.augment in AT_OWN_SIZE:
            photo, labels, marks = AT_OWN_SIZE[self.augment](self.faces[i], self.size, rng)
        else:
            photo, labels, marks = self._plain(i)
            if self.paste:
                paste_rng = np.random.default_rng(derive_seed(self.seed, "paste", epoch, self.ids[i], *again))
                photo, labels = self._with_accessory(i, photo, labels, paste_rng)
            if not self.on_device:
                photo, labels = RECIPES[self.augment](photo, labels, self.faces.label_space, rng)
        item = tuple(torch.from_numpy(a.copy(order="C")) for a in (photo.transpose(2, 0, 1), labels))
        if self.landmarks:
            return *item, torch.from_numpy(marks.copy())
        return (*item, drawn_row(self.size, rng)) if self.on_device else item

    def placed(self, batches: Iterable[list[torch.Tensor]], device: torch.device) -> Iterator[list[torch.Tensor]]:
        """What the loader's ``batches`` hold, on ``device``, where ``on_device`` applies the recipe."""
        for photos, labels, *more in batches:
            placed = [photos.to(device, non_blocking=True), labels.to(device, non_blocking=True)]
            if self.on_device:
                yield list(ce7454_batch(*placed, *more))
            else:
                yield placed + [marks.to(device, non_blocking=True) for marks in more]

    def _with_accessory(
        self, i: int, photo: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample ``i`` with one of the accessories that it lacks, with probability ``paste``."""
        space = self.faces.label_space
        lacking = [c for c in self._donors if not self.presence[i, space.index(c)]]
        if not lacking or rng.random() >= self.paste:
            return photo, labels
        accessory = lacking[rng.integers(len(lacking))]
        for donor in rng.choice(self._donors[accessory], _DONORS_TRIED):
            given = self._plain(donor)[:2]
            if rng.random() < 0.5:
                given = flip(*given, space)
            if fits(accessory, labels, given[1], space):
                return pasted(photo, labels, *given, space.index(accessory))
        return photo, labels


class _Batches(Sampler):
    def __init__(self, batches: Sequence[list[Key]]):
        self.batches = batches

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def planned(
    view: TrainingView, batch_size: int, epoch: int, sampling: str = "shuffled", repeat_threshold: float = 0.0
) -> list[list[Key]]:
    """Keys of every global batch of ``epoch``; ``view.ids[key[1]]`` is a key's sample id.

    Args:
        sampling: ``shuffled``: every sample once; ``repeat_factor``: samples with rare classes more often, see
            :func:`semfacediff.data.sampling.repeat_factors`.
        repeat_threshold: for ``repeat_factor``: classes in a smaller share of the samples are rare.
    """
    factors = repeat_factors(view.presence, repeat_threshold) if sampling == "repeat_factor" else None
    seen: Counter[int] = Counter()
    batches = []
    for batch in epoch_batches(len(view), batch_size, view.seed, epoch, factors):
        keys: list[Key] = []
        for i in batch:
            keys.append((epoch, i, seen[i]) if seen[i] else (epoch, i))
            seen[i] += 1
        batches.append(keys)
    return batches


class _Loader(DataLoader):
    """Says in one sentence that ``/dev/shm``, through which workers hand over their batches, is too small."""

    # torch declares its own iterator class, which nothing here needs.
    def __iter__(self) -> Iterator[list[torch.Tensor]]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except (RuntimeError, OSError) as e:  # of a worker, what torch says of one that a signal ended, of semaphores
            if "shared memory" not in str(e) and getattr(e, "errno", None) != errno.ENOSPC:
                raise
            there = f" ({shutil.disk_usage(_SHARED).total / 1e6:.0f} MB)" if _SHARED.is_dir() else ""
            ahead = self.num_workers * (self.prefetch_factor or 0)
            raise UserError(
                f"runtime.workers={self.num_workers}: the shared memory{there} does not hold the "
                f"{ahead} batches that they prepare; start the container with more "
                f"(docker run --shm-size=2g), or set runtime.workers=0, then repeat the command"
            ) from e


def loader(  # noqa: PLR0913  numbers of one place in a training; all but three have defaults
    view: TrainingView,
    batch_size: int,
    epoch: int,
    start: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    sampling: str = "shuffled",
    repeat_threshold: float = 0.0,
    pinned: bool = False,
) -> DataLoader:
    """Batches ``start``.. of ``epoch``; of each global batch, process ``rank`` of ``world`` gets its share.

    Args:
        sampling, repeat_threshold: see :func:`planned`.
        pinned: copy batches into memory that CUDA reads while it computes.

    Raises:
        UserError: while batches are drawn: the shared memory is too small for those of the workers.
    """
    batches = planned(view, batch_size, epoch, sampling, repeat_threshold)[start:]
    shares = [batch[rank::world] for batch in batches]
    ahead = 4 if workers else None
    return _Loader(view, batch_sampler=_Batches(shares), num_workers=workers, prefetch_factor=ahead, pin_memory=pinned)

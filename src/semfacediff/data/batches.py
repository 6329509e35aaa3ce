"""Training batches whose content depends on (seed, epoch, step) alone: not on workers, and not on interruptions."""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from semfacediff.data.augment import resized, standard
from semfacediff.seeding import derive_seed


class TrainingView(Dataset):
    """Photos and labels at the training size; index is (epoch, sample index).

    Items: photo uint8 ``[3, S, S]``, labels uint8 ``[S, S]``.

    Args:
        faces: a data set with labels.
        augment: apply :func:`semfacediff.data.augment.standard`, seeded by (seed, epoch, sample id).
        keep_in_memory: decode and resize once, before the workers are forked; S*S*4 bytes a sample.
    """

    def __init__(self, faces, size: int, augment: bool, seed: int, keep_in_memory: bool = False):
        self.faces, self.size, self.augment, self.seed = faces, size, augment, seed
        self.ids = faces.ids
        self._kept = self._decode_all() if keep_in_memory else None

    def __len__(self) -> int:
        return len(self.faces)

    def unaugmented(self) -> "TrainingView":
        """The same samples as they are, sharing what is kept in memory."""
        plain = copy.copy(self)
        plain.augment = False
        return plain

    def _decoded(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self.faces[i]
        return resized(sample.photo, sample.labels, self.size)

    def _decode_all(self) -> tuple[np.ndarray, np.ndarray]:
        n, s = len(self), self.size
        photos, labels = np.empty((n, s, s, 3), np.uint8), np.empty((n, s, s), np.uint8)

        def keep(i: int) -> None:
            photos[i], labels[i] = self._decoded(i)

        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(keep, range(n)):
                pass
        return photos, labels

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, i = key
        photo, labels = (self._kept[0][i], self._kept[1][i]) if self._kept else self._decoded(i)
        if self.augment:
            rng = np.random.default_rng(derive_seed(self.seed, "augment", epoch, self.ids[i]))
            photo, labels = standard(photo, labels, self.faces.label_space, rng)
        photo = np.ascontiguousarray(photo.transpose(2, 0, 1))
        return torch.from_numpy(photo), torch.from_numpy(np.ascontiguousarray(labels))


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in ``n`` samples; one smaller batch if there are fewer than ``batch_size``."""
    return max(1, n // batch_size)


def epoch_batches(n: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Shuffled batches of sample indices of one epoch; what does not fill a batch waits for another epoch."""
    order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(n).tolist()
    steps = steps_per_epoch(n, batch_size)
    return [order[k * batch_size : (k + 1) * batch_size] for k in range(steps)]


class _Batches(Sampler):
    def __init__(self, batches: Sequence[list[tuple[int, int]]]):
        self.batches = batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def loader(
    view: TrainingView, batch_size: int, epoch: int, start: int = 0, workers: int = 0, rank: int = 0, world: int = 1
) -> DataLoader:
    """Batches ``start``.. of ``epoch``; of each global batch, process ``rank`` of ``world`` gets its share."""
    batches = epoch_batches(len(view), batch_size, view.seed, epoch)[start:]
    shares = [[(epoch, i) for i in batch[rank::world]] for batch in batches]
    return DataLoader(view, batch_sampler=_Batches(shares), num_workers=workers, prefetch_factor=4 if workers else None)

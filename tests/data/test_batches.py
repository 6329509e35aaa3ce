"""Training batches depend on (seed, epoch, step): not on workers, processes, memory or interruptions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semfacediff.data.batches import TrainingView, epoch_batches, loader, steps_per_epoch
from semfacediff.data.toy import ToyFaces


@pytest.fixture(scope="module")
def faces():
    return ToyFaces(11, 48)


def view(faces, **options):
    return TrainingView(faces, **{"size": 32, "augment": True, "seed": 5, **options})


def contents(batches):
    return [(photos.clone(), labels.clone()) for photos, labels in batches]


def equal(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


@given(st.integers(1, 60), st.integers(1, 16), st.integers(0, 2**31), st.integers(0, 50))
def test_an_epoch_takes_each_sample_at_most_once(n, batch_size, seed, epoch):
    batches = epoch_batches(n, batch_size, seed, epoch)
    flat = [i for batch in batches for i in batch]
    assert len(batches) == steps_per_epoch(n, batch_size)
    assert len(set(flat)) == len(flat)
    assert set(flat) <= set(range(n))
    assert n - len(flat) < batch_size
    assert {len(b) for b in batches} == {min(batch_size, n)}
    assert epoch_batches(n, batch_size, seed, epoch) == batches


def test_seed_and_epoch_each_change_the_order():
    orders = [epoch_batches(40, 8, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_items_are_8_bit_and_ready_for_the_model(faces):
    photo, labels = view(faces)[0, 3]
    assert (photo.dtype, tuple(photo.shape)) == (torch.uint8, (3, 32, 32))
    assert (labels.dtype, tuple(labels.shape)) == (torch.uint8, (32, 32))
    assert photo.is_contiguous()
    assert int(labels.max()) < 19


def test_augmentation_depends_on_seed_epoch_and_sample(faces):
    a = view(faces)
    assert torch.equal(a[2, 3][0], view(faces)[2, 3][0])
    others = (a[1, 3], a[2, 4], view(faces, seed=6)[2, 3])
    assert not any(torch.equal(a[2, 3][0], other[0]) for other in others)


def test_without_augmentation_epochs_are_alike(faces):
    plain = view(faces, augment=False)
    assert torch.equal(plain[0, 3][0], plain[7, 3][0])
    assert np.array_equal(view(faces, augment=False, size=48)[0, 3][1].numpy(), faces[3].labels)


def test_kept_in_memory_is_the_same(faces):
    assert equal(contents(loader(view(faces, keep_in_memory=True), 4, 1)), contents(loader(view(faces), 4, 1)))


def test_the_loader_follows_the_order_of_the_epoch(faces):
    plain = view(faces, augment=False)
    batches = contents(loader(plain, 4, epoch=2))
    wanted = epoch_batches(11, 4, 5, 2)
    assert len(batches) == len(wanted) == 2
    for (photos, _), indices in zip(batches, wanted, strict=True):
        assert torch.equal(photos, torch.stack([plain[2, i][0] for i in indices]))


def test_an_interrupted_epoch_goes_on_where_it_stopped(faces):
    whole = contents(loader(view(faces), 3, epoch=1))
    assert equal(contents(loader(view(faces), 3, epoch=1, start=2)), whole[2:])
    assert contents(loader(view(faces), 3, epoch=1, start=3)) == []


def test_workers_change_nothing(faces):
    assert equal(contents(loader(view(faces), 4, 3, workers=2)), contents(loader(view(faces), 4, 3)))


def test_processes_share_each_global_batch(faces):
    alone = contents(loader(view(faces), 4, 1))
    shares = [contents(loader(view(faces), 4, 1, rank=r, world=2)) for r in range(2)]
    for step, (photos, labels) in enumerate(alone):
        for r in range(2):
            assert torch.equal(shares[r][step][0], photos[r::2])
            assert torch.equal(shares[r][step][1], labels[r::2])


def test_fewer_samples_than_a_batch_make_one_smaller_batch(faces):
    ((photos, _),) = contents(loader(view(faces), 32, 0))
    assert len(photos) == 11

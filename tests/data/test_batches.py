"""Training batches depend on (seed, epoch, step): not on workers, processes, memory or interruptions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semfacediff import config
from semfacediff.data.batches import TrainingView, epoch_batches, loader, planned, steps_per_epoch
from semfacediff.data.sampling import repeat_factors, repeated
from semfacediff.data.toy import ToyFaces
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, LONG_TAIL, SPACES, LabelSpace
from semfacediff.types import FaceSample


class Held:
    """Samples drawn once, as a data set."""

    label_space = CELEBAMASK

    def __init__(self, samples):
        self.samples = list(samples)
        self.ids = [s.id for s in self.samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


@pytest.fixture(scope="module")
def faces():
    return Held(ToyFaces(11, 48))


def view(faces, **options):
    return TrainingView(faces, **{"size": 32, "augment": "standard", "seed": 5, **options})


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
    plain = view(faces, augment="none")
    assert torch.equal(plain[0, 3][0], plain[7, 3][0])
    assert np.array_equal(view(faces, augment="none", size=48)[0, 3][1].numpy(), faces[3].labels)


def test_kept_in_memory_is_the_same(faces):
    assert equal(contents(loader(view(faces, keep_in_memory=True), 4, 1)), contents(loader(view(faces), 4, 1)))


def test_the_loader_follows_the_order_of_the_epoch(faces):
    plain = view(faces, augment="none")
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


def test_the_unaugmented_view_is_the_plain_one(faces):
    plain = view(faces, augment="strong", paste=1.0, keep_in_memory=True).unaugmented()
    wanted = view(faces, augment="none")
    for i in range(len(faces)):
        assert all(torch.equal(a, b) for a, b in zip(plain[3, i], wanted[0, i], strict=True))


def test_items_can_be_written_to(faces):
    """A batch of one is not stacked: a change to it must not reach what is kept."""
    kept = view(faces, augment="none", keep_in_memory=True)
    before = kept[0, 0][0].clone(), kept[0, 0][1].clone()
    for item in kept[0, 0]:
        item.zero_()
    assert torch.equal(kept[0, 0][0], before[0])
    assert torch.equal(kept[0, 0][1], before[1])


def test_an_unknown_recipe_is_named(faces):
    with pytest.raises(UserError, match=r"train\.augment: unknown recipe 'mild'; choose one of none, flip, affine"):
        view(faces, augment="mild")


@pytest.mark.parametrize("augment", ["strong", "ce7454"])
def test_every_recipe_comes_through_the_loader_alike(faces, augment):
    options = {"augment": augment, "paste": 0.7}
    alone = contents(loader(view(faces, **options), 4, 2))
    assert alone[0][0].dtype == (torch.float32 if augment == "ce7454" else torch.uint8)
    assert equal(contents(loader(view(faces, **options, keep_in_memory=True), 4, 2, workers=2)), alone)
    assert equal(contents(loader(view(faces, **options), 4, 2, start=1)), alone[1:])


class TestOnDevice:
    def test_batches_come_out_the_same_whoever_loads_them(self, faces):
        options = {"augment": "ce7454", "on_device": True, "paste": 0.5}
        a, cpu = view(faces, **options), torch.device("cpu")
        whole = contents(a.placed(loader(a, 4, 1), cpu))
        assert whole[0][0].dtype == torch.float32
        assert equal(contents(a.placed(loader(a, 4, 1, workers=2), cpu)), whole)
        assert equal(contents(a.placed(loader(a, 4, 1, start=1), cpu)), whole[1:])
        share = contents(a.placed(loader(a, 4, 1, rank=1, world=2), cpu))
        assert all(torch.equal(x[0], y[0][1::2]) for x, y in zip(share, whole, strict=True))

    def test_the_parameters_are_those_of_the_other_form(self, faces):
        """Labels are exact, and photos differ by two draws of the noise."""
        a, b = view(faces, augment="ce7454"), view(faces, augment="ce7454", on_device=True)
        ((x, y),), ((v, w),) = contents(loader(a, 11, 1)), contents(b.placed(loader(b, 11, 1), torch.device("cpu")))
        assert torch.equal(y, w)
        assert 0 < (x - v).square().mean().sqrt() < 1.1 * 2**0.5 * 0.03 * 255

    def test_elsewhere_placing_changes_nothing(self, faces):
        a = view(faces, augment="strong")
        assert equal(contents(a.placed(loader(a, 4, 1), torch.device("cpu"))), contents(loader(a, 4, 1)))
        on_device = view(faces, augment="ce7454", on_device=True).unaugmented()
        assert all(torch.equal(p, q) for p, q in zip(on_device[0, 1], view(faces, augment="none")[0, 1], strict=True))

    def test_the_configuration_refuses_other_recipes(self, compose):
        words = ("train.augment_on=device", "train.augment=strong")
        message = r"train\.augment_on=device works with train\.augment=ce7454 .*, got train\.augment=strong"
        with pytest.raises(UserError, match=message):
            config.typed(compose("train_parser", *words), config.ParserTraining)


class Rare:
    """Ten samples of skin and hair; the first shows a hat as well, the last cloth in place of hair."""

    label_space = CELEBAMASK

    def __init__(self, size=32):
        self.ids = [f"s{i}" for i in range(10)]
        self.size = size
        self.labels = np.full((10, size, size), CELEBAMASK.index("skin"), np.uint8)
        self.labels[:, :16] = CELEBAMASK.index("hair")
        self.labels[9, :16] = CELEBAMASK.index("cloth")
        self.labels[0, 2:10, 4:20] = CELEBAMASK.index("hat")

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        photo = np.full((self.size, self.size, 3), 20 * i, np.uint8)
        return FaceSample(self.ids[i], photo, self.labels[i])


class TestRepeatFactor:
    def test_presence_is_what_the_labels_show(self, faces):
        wanted = [[(view(faces, augment="none")[0, i][1] == c).any() for c in range(19)] for i in range(len(faces))]
        assert np.array_equal(view(faces).presence, wanted)
        assert np.array_equal(view(faces, keep_in_memory=True).presence, wanted)

    def test_factors_by_hand(self):
        """Of four photos all show class 0, one class 1 (f = 1/4), two class 2 (f = 1/2); nobody shows class 3."""
        presence = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0]], bool)
        assert repeat_factors(presence, 1.0) == pytest.approx([2.0, 2**0.5, 2**0.5, 1.0])
        assert repeat_factors(presence, 0.36) == pytest.approx([1.2, 1.0, 1.0, 1.0])
        assert np.array_equal(repeat_factors(presence, 0.25), np.ones(4))
        presence[1, 1] = presence[0, 2] = True  # now f = 1/2 and 3/4; a photo takes its rarest class's factor
        assert repeat_factors(presence, 1.0)[0] == pytest.approx(2**0.5)

    def test_repeats_are_rounded_by_chance_to_the_right_mean(self):
        factors = np.array([1.0, 1.25, 2.5, 3.0])
        counts = np.array([np.bincount(repeated(factors, 7, epoch), minlength=4) for epoch in range(800)])
        assert set(counts[:, 0]) == {1}
        assert set(counts[:, 1]) == {1, 2}
        assert set(counts[:, 2]) == {2, 3}
        assert set(counts[:, 3]) == {3}
        assert counts.mean(axis=0) == pytest.approx(factors, abs=0.06)
        assert np.array_equal(repeated(factors, 7, 3), repeated(factors, 7, 3))
        assert np.array_equal(repeated(factors, 7, 3), np.sort(repeated(factors, 7, 3)))

    def test_an_epoch_keeps_its_length_and_shows_the_rare_more_often(self):
        rare = view(Rare(), augment="none")
        shown = np.zeros(10)
        for epoch in range(300):
            batches = planned(rare, 5, epoch, "repeat_factor", 0.9)
            assert [len(b) for b in batches] == [5, 5]
            shown += np.bincount([key[1] for batch in batches for key in batch], minlength=10)
        # f = 0.1 for hat and cloth: these two come 3 times where others come once, and 14 are cut to 10.
        assert shown / 300 == pytest.approx([30 / 14, *[10 / 14] * 8, 30 / 14], abs=0.12)

    def test_nothing_rare_leaves_the_order_as_it_is(self, faces):
        assert planned(view(faces), 4, 3, "repeat_factor", 1e-9) == planned(view(faces), 4, 3)
        assert [[key[1] for key in batch] for batch in planned(view(faces), 4, 3)] == epoch_batches(11, 4, 5, 3)

    def test_a_repeated_sample_is_changed_anew(self):
        rare = view(Rare(), augment="strong")
        keys = [k for batch in planned(rare, 5, 1, "repeat_factor", 0.9) for k in batch]
        of_hat = [k for k in keys if k[1] == 0]
        assert of_hat == [(1, 0), (1, 0, 1), (1, 0, 2)][: len(of_hat)]
        assert len(set(keys)) == len(keys) == 10
        assert not torch.equal(rare[1, 0][0], rare[1, 0, 1][0])

    def test_interruptions_and_processes_change_nothing(self):
        options = {"sampling": "repeat_factor", "repeat_threshold": 0.9}
        whole = contents(loader(view(Rare()), 4, 1, **options))
        assert not equal(whole, contents(loader(view(Rare()), 4, 1)))
        assert equal(contents(loader(view(Rare()), 4, 1, start=1, **options)), whole[1:])
        for rank in range(2):
            share = contents(loader(view(Rare()), 4, 1, rank=rank, world=2, **options))
            assert all(torch.equal(a[0], b[0][rank::2]) for a, b in zip(share, whole, strict=True))

    def test_fewer_samples_than_a_batch_still_make_one_batch_of_them(self):
        ((keys),) = planned(view(Rare()), 64, 0, "repeat_factor", 0.9)
        assert len(keys) == 10


class TestPasteAccessories:
    def test_a_hat_reaches_the_photos_that_lack_one(self):
        """Where it lies on hair; photo 9 has cloth there, and it does not fit. Everything else stays."""
        plain, pasted = view(Rare(), augment="none"), view(Rare(), augment="none", paste=1.0)
        hat = CELEBAMASK.index("hat")
        regions = {tuple(np.flatnonzero(r)) for r in (Rare().labels[0] == hat, Rare().labels[0, :, ::-1] == hat)}
        seen = set()
        for i in range(10):
            (photo, labels), (new_photo, new_labels) = plain[0, i], pasted[0, i]
            changed = labels != new_labels
            assert bool(changed.any()) == (i not in (0, 9))
            if changed.any():
                assert (new_labels[changed] == hat).all()
                seen.add(tuple(np.flatnonzero(changed)))
                assert (new_photo[0][changed] < photo[0][changed]).all()
            else:
                assert torch.equal(photo, new_photo)
        assert seen == regions  # the donor's, and its mirror image

    @pytest.mark.parametrize("keep", [False, True])
    def test_it_depends_on_seed_epoch_and_sample_alone(self, faces, keep):
        a, b = view(faces, paste=0.8), view(faces, paste=0.8, keep_in_memory=keep)
        backwards = {i: b[1, i] for i in reversed(range(11))}
        for i in range(11):
            assert all(torch.equal(x, y) for x, y in zip(a[1, i], backwards[i], strict=True))
        pasted = [torch.equal(a[e, i][1], view(faces)[e, i][1]) for e in range(3) for i in range(11)]
        assert not all(pasted)

    def test_the_recipe_draws_what_it_drew_without(self, faces):
        """Paste has a generator of its own: samples it leaves alone are as before."""
        with_paste, without = view(faces, paste=0.5), view(faces)
        alike = [torch.equal(with_paste[0, i][0], without[0, i][0]) for i in range(11)]
        assert any(alike)
        assert not all(alike)

    def test_the_probability_is_kept(self):
        half, plain = view(Rare(), augment="none", paste=0.5), view(Rare(), augment="none")
        changed = [not torch.equal(half[e, i][1], plain[e, i][1]) for e in range(60) for i in range(1, 9)]
        assert np.mean(changed) == pytest.approx(0.5, abs=0.07)

    def test_without_a_donor_nothing_happens(self):
        bald = Rare()
        bald.labels[0] = bald.labels[1]
        plain, pasted = view(bald, augment="none"), view(bald, augment="none", paste=1.0)
        assert all(torch.equal(plain[0, i][0], pasted[0, i][0]) for i in range(10))

    def test_a_space_without_accessories_is_refused(self):
        lapa = Rare()
        lapa.label_space = SPACES["lapa"]
        message = r"train\.paste_accessories: label space 'lapa' has none of eye_g, hat, ear_r, neck_l; set it to 0"
        with pytest.raises(UserError, match=message):
            view(lapa, paste=0.1)

    def test_classes_go_by_name(self):
        """In another order of the same classes the same pixels change."""
        other, ours = Rare(), Rare()
        order = tuple(reversed(CELEBAMASK.classes))
        other.label_space = LabelSpace("reversed", order)
        other.labels = (18 - ours.labels).astype(np.uint8)
        assert set(LONG_TAIL) <= set(order)
        a, b = view(ours, augment="none", paste=1.0), view(other, augment="none", paste=1.0)
        for i in range(10):
            assert torch.equal(a[2, i][0], b[2, i][0])
            assert torch.equal(a[2, i][1], 18 - b[2, i][1])

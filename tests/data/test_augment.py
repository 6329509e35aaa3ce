"""Changes at training time: photo and labels stay together, left stays left, and the generator decides everything."""

import typing

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torchvision import transforms

from semfacediff.config import TrainConfig
from semfacediff.data.augment import AT_OWN_SIZE, RECIPES, flip, on_device, recipes, resized
from semfacediff.data.augment.colour import gamma_curve, noisy, recoloured
from semfacediff.data.augment.geometry import similarity, warped
from semfacediff.data.augment.jitter import JITTER, blurred
from semfacediff.data.augment.paste import EDGE_PX, FITS, accessories, fits, pasted
from semfacediff.data.augment.recipes import tv_tensors, zoomed_middle
from semfacediff.labels import CELEBAMASK, LONG_TAIL, SPACES

CHANGING = sorted(set(RECIPES) - {"none"})
WITH_FLIP = ("flip", "standard", "strong")


def generator(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def face(toy_samples):
    return toy_samples(1, 64)[0]


@given(st.sampled_from(list(SPACES)), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_flipping_twice_changes_nothing(name, height, width, seed):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    labels = rng.integers(0, SPACES[name].n, (height, width)).astype(np.uint8)
    once = flip(photo, labels, SPACES[name])
    twice = flip(*once, SPACES[name])
    assert np.array_equal(once[0], photo[:, ::-1])
    assert once[1].dtype == np.uint8
    assert np.array_equal(twice[0], photo)
    assert np.array_equal(twice[1], labels)


def test_a_flipped_left_eye_is_a_right_eye_on_the_other_side(face):
    _, flipped = flip(face.photo, face.labels, CELEBAMASK)
    for left, right in (("l_eye", "r_eye"), ("l_brow", "r_brow")):
        before, after = face.labels == CELEBAMASK.index(left), flipped == CELEBAMASK.index(right)
        assert before.any()
        assert np.array_equal(after, before[:, ::-1])
    hair = CELEBAMASK.index("hair")
    assert np.array_equal(flipped == hair, (face.labels == hair)[:, ::-1])


class TestResized:
    def test_the_right_size_is_left_alone(self, face):
        photo, labels = resized(face.photo, face.labels, 64)
        assert photo is face.photo
        assert labels is face.labels

    @pytest.mark.parametrize("size", [32, 48, 100])
    def test_another_size_adds_no_class(self, face, size):
        photo, labels = resized(face.photo, face.labels, size)
        assert photo.shape == (size, size, 3)
        assert labels.shape == (size, size)
        assert photo.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) <= set(np.unique(face.labels))

    def test_shrinking_averages_photos_and_picks_labels(self):
        photo = np.zeros((64, 64, 3), np.uint8)
        photo[:, ::2] = 200
        labels = np.repeat(np.arange(16, dtype=np.uint8)[None], 64, axis=0).repeat(4, axis=1)
        small, small_labels = resized(photo, labels, 32)
        assert (small == 100).all()
        assert np.array_equal(small_labels[0], np.arange(16).repeat(2))

    def test_photo_and_labels_of_different_sizes_meet(self, face):
        photo, labels = resized(face.photo.repeat(2, 0).repeat(2, 1), face.labels, 64)
        assert np.array_equal(photo, face.photo)
        assert labels is face.labels

    def test_a_photo_that_is_not_square_fills_the_square(self, face):
        photo, labels = resized(face.photo[:40], face.labels[:40], 64)
        assert (photo.shape, labels.shape) == ((64, 64, 3), (64, 64))


class TestWarped:
    def test_a_shift_moves_photo_and_labels_by_whole_pixels_and_fills_what_is_free(self, face):
        matrix = similarity(64, 0, 1, np.array([10, -4]))
        photo, labels = warped(face.photo, face.labels, matrix, cv2.BORDER_CONSTANT, (10, 20, 30))
        assert np.array_equal(photo[:60, 10:], face.photo[4:, :54])
        assert np.array_equal(labels[:60, 10:], face.labels[4:, :54])
        assert (photo[:, :10] == (10, 20, 30)).all()
        assert (photo[60:] == (10, 20, 30)).all()
        assert not labels[:, :10].any()
        assert not labels[60:].any()

    @pytest.mark.parametrize(("angle_deg", "zoom"), [(14, 0.7), (-9, 1.5)])
    def test_it_agrees_with_torchvision(self, face, angle_deg, zoom):
        """Same motion by another library; turns are clockwise there, and pixel centres lie half a pixel apart."""
        image, mask = tv_tensors(cv2.GaussianBlur(face.photo, (0, 0), 2), face.labels)
        matrix = similarity(64, -angle_deg, zoom, np.array([3, -2]))
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        ours = warped(image.permute(1, 2, 0).numpy(), face.labels, matrix, cv2.BORDER_CONSTANT, (0, 0, 0))
        moved = {"angle": angle_deg, "translate": [3, -2], "scale": zoom, "shear": [0.0, 0.0]}
        bilinear = transforms.v2.InterpolationMode.BILINEAR
        theirs = transforms.v2.functional.affine(image, interpolation=bilinear, **moved).permute(1, 2, 0).numpy()
        inside = cv2.erode(warped(image.permute(1, 2, 0).numpy(), np.ones((64, 64), np.uint8), matrix, 0)[1], None)
        apart = np.abs(ours[0].astype(int) - theirs)[inside == 1]
        assert inside.mean() > 0.3
        assert apart.max() <= 2
        labels = transforms.v2.functional.affine(mask, **moved)[0].numpy()
        assert (ours[1] == labels).mean() > 0.99


class TestEveryRecipe:
    def test_the_configuration_knows_them_all(self):
        assert set(typing.get_args(TrainConfig.model_fields["augment"].annotation)) == {*RECIPES, *AT_OWN_SIZE}

    @pytest.mark.parametrize("name", CHANGING)
    def test_the_generator_decides_everything(self, face, name):
        """And nothing else: torch's and numpy's global states are neither read nor moved."""
        recipe, before = RECIPES[name], (torch.get_rng_state(), np.random.get_state()[1].copy())
        results = [recipe(face.photo, face.labels, CELEBAMASK, generator(seed)) for seed in range(6)]
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])
        torch.manual_seed(1)
        np.random.seed(1)
        for seed, (photo, labels) in enumerate(results):
            again = recipe(face.photo, face.labels, CELEBAMASK, generator(seed))
            assert np.array_equal(photo, again[0])
            assert np.array_equal(labels, again[1])
        assert any(not np.array_equal(results[0][0], photo) for photo, _ in results[1:])

    @pytest.mark.parametrize("name", RECIPES)
    @pytest.mark.parametrize("seed", range(4))
    def test_shapes_types_and_classes_stay(self, face, name, seed):
        photo, labels = RECIPES[name](face.photo, face.labels, CELEBAMASK, generator(seed))
        assert photo.shape == (64, 64, 3)
        assert photo.dtype == (np.float32 if name == "ce7454" else np.uint8)
        assert photo.min() >= 0
        assert 1 < photo.max() <= 255
        assert (labels.shape, labels.dtype) == ((64, 64), np.uint8)
        present = set(np.unique(face.labels))
        swapped = set(CELEBAMASK.mirrored[list(present)]) if name in WITH_FLIP else set()
        outside = {0} if name in ("affine", "strong") else set()
        assert set(np.unique(labels)) <= present | swapped | outside

    @pytest.mark.parametrize("name", RECIPES)
    def test_labels_are_never_mixed(self, name):
        """Classes 6 and 18 in stripes: a mean of neighbours would show as another class."""
        labels = np.where(np.arange(64) % 8 < 4, 6, 18).astype(np.uint8)[None].repeat(64, axis=0)
        photo = np.full((64, 64, 3), 90, np.uint8)
        for seed in range(6):
            changed = RECIPES[name](photo, labels, CELEBAMASK, generator(seed))[1]
            assert set(np.unique(changed)) <= {6, 18, 0, int(CELEBAMASK.mirrored[6])}

    @pytest.mark.parametrize("name", RECIPES)
    def test_the_sources_are_not_written_to(self, face, name):
        photo, labels = face.photo.copy(), face.labels.copy()
        photo.flags.writeable = labels.flags.writeable = False
        for seed in range(4):
            RECIPES[name](photo, labels, CELEBAMASK, generator(seed))
        assert np.array_equal(photo, face.photo)
        assert np.array_equal(labels, face.labels)

    @pytest.mark.parametrize("name", RECIPES)
    @pytest.mark.parametrize("seed", range(6))
    def test_photo_and_labels_move_together(self, name, seed):
        """A bright disc labelled 1 on black: after any change, what is bright is still labelled 1."""
        y, x = np.mgrid[:96, :96]
        disc = (x - 40) ** 2 + (y - 52) ** 2 < 24**2
        photo = np.where(disc[..., None], 200, 0).astype(np.uint8).repeat(3, axis=2)
        changed, labels = RECIPES[name](photo, disc.astype(np.uint8), CELEBAMASK, generator(seed))
        grey = changed.mean(axis=2)
        bright = np.abs(grey - grey[labels == 1].mean()) < np.abs(grey - grey[_old_frame(name, labels)].mean())
        known = _old_frame(name, labels) | (labels == 1)
        assert (bright == (labels == 1))[known].mean() > 0.96

    def test_recipes_differ(self, face):
        mirrored = next(seed for seed in range(20) if generator(seed).random() < 0.5)
        photos = [RECIPES[name](face.photo, face.labels, CELEBAMASK, generator(mirrored))[0] for name in RECIPES]
        for i, a in enumerate(photos):
            assert all(not np.array_equal(a, b) for b in photos[:i])

    @pytest.mark.parametrize("name", CHANGING)
    def test_the_number_of_threads_changes_no_more_than_rounding(self, toy_samples, name):
        """A resized value between two levels may fall to the other one, and then passes four changes of colour."""
        sample = toy_samples(1, 256)[0]  # large enough for sums to be split
        results, threads = [], torch.get_num_threads()
        try:
            for n in (1, 2):
                torch.set_num_threads(n)
                results.append(RECIPES[name](sample.photo, sample.labels, CELEBAMASK, generator(7)))
        finally:
            torch.set_num_threads(threads)
        apart = np.abs(results[0][0].astype(np.float32) - results[1][0])
        assert (apart <= 1e-3).mean() >= 0.999
        assert apart.max() <= 10, "1.25^4, and a level for each floor"
        assert (results[0][1] == results[1][1]).mean() >= 0.999


def _old_frame(name, labels):
    """Background near the disc: ``strong`` and ``affine`` fill what lies outside the old frame."""
    near = cv2.dilate((labels == 1).astype(np.uint8), np.ones((9, 9), np.uint8)) == 1
    return near & (labels == 0)


def test_half_of_the_flips_happen_and_mirror_whole_faces(face):
    mirrored = flip(face.photo, face.labels, CELEBAMASK)
    happened = 0
    for seed in range(40):
        photo, labels = RECIPES["flip"](face.photo, face.labels, CELEBAMASK, generator(seed))
        moved = not np.array_equal(photo, face.photo)
        happened += moved
        assert np.array_equal(photo, mirrored[0] if moved else face.photo)
        assert np.array_equal(labels, mirrored[1] if moved else face.labels)
    assert 10 < happened < 30


class TestColour:
    def test_unit_factors_change_nothing(self, face):
        assert np.array_equal(recoloured(face.photo, 1.0, 1.0, np.ones(3)), face.photo)
        assert np.array_equal(gamma_curve(face.photo, 1.0), face.photo)

    def test_the_matrix_does_the_three_steps_one_after_another(self, face):
        photo = face.photo.astype(np.float64)
        luma = (photo @ (0.299, 0.587, 0.114))[..., None]
        x = luma + (photo - luma) * 0.7
        x = (luma.mean() + (x - luma.mean()) * 1.2) * (1.1, 0.9, 1.0)
        changed = recoloured(face.photo, 0.7, 1.2, np.array([1.1, 0.9, 1.0]))
        assert np.abs(changed - np.clip(x, 0, 255)).max() <= 1

    def test_no_saturation_is_grey(self, face):
        grey = recoloured(face.photo, 0.0, 1.0, np.ones(3))
        assert np.ptp(grey, axis=2).max() == 0
        assert np.abs(grey[..., 0].astype(int) - np.asarray(Image.fromarray(face.photo).convert("L"))).max() <= 1

    def test_gamma_keeps_the_ends_and_bends_the_middle(self):
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        bent = gamma_curve(ramp, 2.0)
        assert (bent[0, 0] == 0).all()
        assert (bent[15, 15] == 255).all()
        assert (bent.ravel()[3 * 128] == round(255 * (128 / 255) ** 2)).all()

    def test_noise_has_the_deviation_asked_for(self):
        noise = noisy(np.full((128, 128, 3), 128, np.uint8), 6.0, generator(0)).astype(float) - 128
        assert noise.std() == pytest.approx(6.0, rel=0.03)
        assert abs(noise.mean()) < 0.1


class Fixed:
    """A generator that gives what the test says: the recipe's draws become known parameters."""

    def __init__(self, zoom, factors, hue, order, blur):
        self.numbers = iter([zoom, np.array(factors), hue])
        self.order = np.array([list(JITTER).index(name) for name in order])
        self.blur = blur

    def uniform(self, low, high, size=None):
        return next(self.numbers)

    def permutation(self, n):
        assert n == 4
        return self.order

    def random(self):
        return 0.1 if self.blur else 0.9

    def standard_normal(self, shape, dtype):
        return np.random.default_rng(3).standard_normal(shape, dtype=dtype)


class TestCE7454:
    """Against the same sequence written with Pillow and torchvision's first transforms, the report's way."""

    @staticmethod
    def reference(photo, labels, zoom, factors, hue, order, blur):
        side = photo.shape[0]
        size = int(side * zoom)
        image = transforms.functional.resize(Image.fromarray(photo), [size, size])
        mask = Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST)
        image, mask = (transforms.functional.center_crop(x, [side, side]) for x in (image, mask))
        amounts = dict(zip(("brightness", "contrast", "saturation"), factors, strict=True))
        enhancers = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast}
        for name in order:
            if name in enhancers:
                image = enhancers[name](image).enhance(amounts[name])
            elif name == "saturation":
                image = ImageEnhance.Color(image).enhance(amounts[name])
            else:
                image = transforms.functional.adjust_hue(image, hue)
        if blur:
            image = transforms.functional.gaussian_blur(image, 3, 0.8)
        x = transforms.functional.to_tensor(image)
        noise = np.random.default_rng(3).standard_normal(x.shape, dtype=np.float32)
        x = torch.clamp(x + torch.from_numpy(noise) * 0.03, 0, 1)
        return x.permute(1, 2, 0).numpy() * 255, np.asarray(mask)

    @pytest.mark.parametrize(
        ("zoom", "factors", "hue", "order", "blur", "levels"),
        [
            (1.0, (1.0, 1.0, 1.0), 0.0, ("brightness", "contrast", "saturation", "hue"), False, 3),
            (1.07, (1.0, 1.0, 1.0), 0.0, ("brightness", "contrast", "saturation", "hue"), True, 3),
            (1.1, (1.2, 0.8, 1.25), 0.0, ("saturation", "contrast", "brightness", "hue"), True, 4),
            (1.03, (0.75, 1.25, 0.8), 0.1, ("hue", "brightness", "saturation", "contrast"), False, 6),
            (1.0, (1.25, 1.1, 0.75), -0.1, ("brightness", "saturation", "hue", "contrast"), True, 6),
        ],
    )
    def test_the_sequence(self, face, zoom, factors, hue, order, blur, levels):
        smooth = cv2.GaussianBlur(face.photo, (0, 0), 1)
        given_parameters = (zoom, factors, hue, order, blur)
        photo, labels = RECIPES["ce7454"](smooth, face.labels, CELEBAMASK, Fixed(*given_parameters))
        wanted, wanted_labels = self.reference(smooth, face.labels, *given_parameters)
        assert (labels == wanted_labels).mean() > 0.99  # a centre that falls between two pixels may go either way
        assert np.abs(photo - wanted).max() < levels + 0.01
        assert np.abs(photo - wanted).mean() < 0.5

    def test_the_order_of_the_jitter_matters_and_is_kept(self, face):
        factors, hue = (1.25, 0.75, 1.25), 0.1
        orders = [("brightness", "contrast", "saturation", "hue"), ("hue", "contrast", "brightness", "saturation")]
        changed = [
            RECIPES["ce7454"](face.photo, face.labels, CELEBAMASK, Fixed(1.0, factors, hue, order, False))[0]
            for order in orders
        ]
        wanted = [self.reference(face.photo, face.labels, 1.0, factors, hue, order, False)[0] for order in orders]
        for i in range(2):
            assert np.abs(changed[i] - wanted[i]).mean() < np.abs(changed[i] - wanted[1 - i]).mean() / 2

    def test_noise_comes_before_the_clamp_and_is_not_rounded(self):
        for value in (0, 255):
            flat = np.full((96, 96, 3), value, np.uint8)
            fixed = Fixed(1.0, (1.0, 1.0, 1.0), 0.0, ("brightness", "contrast", "saturation", "hue"), True)
            photo, _ = RECIPES["ce7454"](flat, flat[..., 0] * 0, CELEBAMASK, fixed)
            assert (photo == value).mean() == pytest.approx(0.5, abs=0.02)  # half of the noise is cut off
            noise = photo[photo != value] - value
            assert np.sqrt((noise**2).mean()) == pytest.approx(0.03 * 255, rel=0.03)
            assert (noise != np.rint(noise)).mean() > 0.99

    def test_parameters_fill_their_ranges(self):
        """Recovered from what comes out: a flat grey photo shows the brightness, a wide disc the zoom."""
        y, x = np.mgrid[:64, :64]
        disc = ((x - 31.5) ** 2 + (y - 31.5) ** 2 < 20**2).astype(np.uint8)
        grey = np.full((64, 64, 3), 100, np.uint8)
        brightness, area = [], []
        for seed in range(60):
            photo, labels = RECIPES["ce7454"](grey, disc, CELEBAMASK, generator(seed))
            brightness.append(photo.mean() / 100)
            area.append(np.sqrt(labels.sum() / disc.sum()))
        assert 0.73 < min(brightness) < 0.80
        assert 1.20 < max(brightness) < 1.27
        assert 0.98 < min(area) < 1.02
        assert 1.06 < max(area) < 1.12

    @pytest.mark.parametrize("name", JITTER)
    def test_jitter_is_torchvisions(self, face, name):
        """With an amount for each sample; up to one level, where a product falls on a whole number."""
        image, _ = tv_tensors(face.photo, face.labels)
        amounts = (-0.1, 0.03, 0.1) if name == "hue" else (0.75, 1.0, 1.2)
        ours = JITTER[name](image.float().expand(3, -1, -1, -1), torch.tensor(amounts).view(3, 1, 1, 1))
        assert torch.equal(ours, ours.floor())
        for one, amount in zip(ours, amounts, strict=True):
            apart = (one - getattr(transforms.v2.functional, f"adjust_{name}")(image, amount).float()).abs()
            assert apart.max() <= 1
            assert (apart > 0).float().mean() < 0.01

    def test_blur_is_torchvisions(self, face):
        image, _ = tv_tensors(face.photo, face.labels)
        theirs = transforms.v2.functional.gaussian_blur(image, [3, 3], [0.8, 0.8]).float()
        assert (blurred(image.float()[None])[0] - theirs).abs().max() <= 1

    def test_a_zoom_of_one_changes_nothing(self, face):
        image, mask = tv_tensors(face.photo, face.labels)
        same = zoomed_middle(image, mask, 64)
        assert torch.equal(same[0], image)
        assert torch.equal(same[1], mask)


class TestOnDevice:
    """The batched form, here on the CPU, against the one for a single sample."""

    @staticmethod
    def batch(samples):
        photos = torch.stack([torch.from_numpy(s.photo.transpose(2, 0, 1).copy()) for s in samples])
        labels = torch.stack([torch.from_numpy(s.labels.copy()) for s in samples])
        rows = torch.stack([on_device.drawn_row(labels.shape[-1], generator(seed)) for seed in range(len(samples))])
        return photos, labels, rows

    def test_but_for_the_noise_it_is_the_same(self, toy_samples, monkeypatch):
        monkeypatch.setattr(recipes, "NOISE_SD", 0.0)
        monkeypatch.setattr(on_device, "NOISE_SD", 0.0)
        samples = toy_samples(24, 64)
        photos, labels = on_device.ce7454_batch(*self.batch(samples))
        assert (photos.dtype, labels.dtype) == (torch.float32, torch.uint8)
        for i, sample in enumerate(samples):
            photo, wanted = RECIPES["ce7454"](sample.photo, sample.labels, CELEBAMASK, generator(i))
            apart = np.abs(photos[i].permute(1, 2, 0).numpy() - photo)
            assert apart.max() < 1e-3
            assert np.array_equal(labels[i], wanted)

    def test_a_sample_is_the_same_in_any_batch(self, toy_samples):
        batch = self.batch(toy_samples(6, 64))
        photos, labels = on_device.ce7454_batch(*batch)
        backwards = on_device.ce7454_batch(*(x.flip(0) for x in batch))
        assert torch.equal(backwards[0].flip(0), photos)
        assert torch.equal(backwards[1].flip(0), labels)
        alone = on_device.ce7454_batch(*(x[4:5] for x in batch))
        assert torch.equal(alone[0][0], photos[4])

    def test_noise_has_the_reports_deviation_and_is_cut_off(self):
        photos = torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
        rows = torch.stack([on_device.drawn_row(96, generator(seed)) for seed in range(2)])
        noise = on_device.ce7454_batch(photos, photos[:, 0], rows)[0]
        assert (noise == 0).float().mean() == pytest.approx(0.5, abs=0.02)
        assert noise[noise > 0].square().mean().sqrt() == pytest.approx(0.03 * 255, rel=0.03)
        assert not torch.equal(noise[0], noise[1])


class TestPaste:
    @staticmethod
    def pair(size=32):
        """A host of skin and a donor with a hat in the middle."""
        donor_labels = np.full((size, size), CELEBAMASK.index("skin"), np.uint8)
        donor_labels[10:20, 8:24] = CELEBAMASK.index("hat")
        labels = np.full((size, size), CELEBAMASK.index("hair"), np.uint8)
        rng = generator(0)
        photos = rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
        return photos[0], labels, photos[1], donor_labels

    def test_only_the_region_and_its_edge_change(self):
        photo, labels, donor_photo, donor_labels = self.pair()
        before = photo.copy(), labels.copy()
        hat = CELEBAMASK.index("hat")
        new_photo, new_labels = pasted(photo, labels, donor_photo, donor_labels, hat)
        region = donor_labels == hat
        assert np.array_equal(new_labels == hat, region)
        assert np.array_equal(new_labels[~region], labels[~region])
        reach = cv2.dilate(region.astype(np.uint8), np.ones((2 * EDGE_PX + 1,) * 2, np.uint8)) == 1
        core = cv2.erode(region.astype(np.uint8), np.ones((2 * EDGE_PX + 1,) * 2, np.uint8)) == 1
        assert core.any()
        assert np.array_equal(new_photo[~reach], photo[~reach])
        assert np.array_equal(new_photo[core], donor_photo[core])
        assert (new_photo.dtype, new_labels.dtype) == (np.uint8, np.uint8)
        assert np.array_equal(photo, before[0])
        assert np.array_equal(labels, before[1])

    def test_the_edge_is_soft(self):
        _, labels, _, donor_labels = self.pair()
        black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
        row = pasted(black, labels, white, donor_labels, CELEBAMASK.index("hat"))[0][15, :, 0].astype(int)
        steps = row[4:14]
        assert (np.diff(steps) >= 0).all()
        assert np.diff(steps).max() < 128
        assert (row[5], row[11]) == (0, 255)

    def test_a_hat_on_a_mouth_does_not_fit(self):
        _, labels, _, donor_labels = self.pair()
        assert fits("hat", labels, donor_labels, CELEBAMASK)
        labels[10:13, 8:24] = CELEBAMASK.index("mouth")  # 30 % of the region
        assert not fits("hat", labels, donor_labels, CELEBAMASK)
        assert not fits("eye_g", labels, donor_labels, CELEBAMASK)  # the donor has none

    def test_accessories_go_by_name(self):
        assert accessories(CELEBAMASK) == LONG_TAIL == tuple(FITS)
        assert accessories(SPACES["segface"]) == LONG_TAIL
        assert accessories(SPACES["lapa"]) == ()
        assert all(c in CELEBAMASK.classes for classes in FITS.values() for c in classes)

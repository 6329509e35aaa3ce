"""Tasks on a tiny model: what each takes from whom, and what is said of faces that cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, conversion, space
from semfacediff.synthesis.faces import layout, paired
from semfacediff.synthesis.layouts import paint
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.synthesis.tasks import Synthesizer


@pytest.fixture(scope="module")
def faces(toy_samples):
    """Two drawn faces with the parts that both have."""
    both = toy_samples(2, 32)
    common = np.intersect1d(*(s.labels for s in both))
    return [replace(s, labels=np.where(np.isin(s.labels, common), s.labels, 1).astype(np.uint8)) for s in both]


@pytest.fixture(scope="module")
def making(tiny, quick):
    return Synthesizer(tiny, quick)


@pytest.fixture(scope="module")
def reconstructed(making, faces):
    return making.reconstruct(faces)


def same(a, b):
    """To 800 roundings of a number near 1: two steps of sampling pass about a hundred layers."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def differ(a, b):
    assert (a - b).abs().amax((1, 2, 3)).min() > 1e-3


def with_hat(face):
    where = np.zeros_like(face.labels, dtype=bool)
    where[:8] = True
    return replace(face, labels=paint(face.labels, "hat", where))


class TestTasks:
    def test_reconstruction(self, reconstructed):
        images = reconstructed.images
        assert images.shape == (2, 3, 32, 32)
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert reconstructed.notes == ("", "")

    def test_the_same_alone_and_in_a_batch(self, making, faces, reconstructed):
        same(making.reconstruct(faces[1:]).images, reconstructed.images[1:])

    def test_style_of_another(self, making, faces, reconstructed):
        swapped = making.swap_style(faces, faces[::-1]).images
        differ(swapped, reconstructed.images)
        same(making.swap_style(faces[:1], [faces[1]]).images, swapped[:1])

    def test_one_reference_serves_all(self, making, faces, reconstructed):
        same(making.swap_style(faces, faces[:1]).images[0], reconstructed.images[0])

    def test_all_parts_are_the_whole_style(self, making, faces):
        whole = making.swap_style(faces, faces[::-1]).images
        same(making.swap_parts(faces, faces[::-1], CELEBAMASK.classes).images, whole)

    def test_some_parts(self, making, faces, reconstructed):
        hair = making.swap_parts(faces, faces[::-1], "hair")
        differ(hair.images, reconstructed.images)
        differ(hair.images, making.swap_style(faces, faces[::-1]).images)
        assert hair.notes == ("", "")

    def test_a_part_outside_the_layout_changes_nothing_and_is_noted(self, making, faces, reconstructed):
        found = making.swap_parts(faces, faces[::-1], "hat")
        assert torch.equal(found.images, reconstructed.images)
        assert found.notes == ("not in the layout: hat",) * 2

    def test_styles_out_of_noise_need_no_photo(self, making, faces):
        first = making.generate(faces).images
        blank = [layout(f.id, f.labels) for f in faces]
        same(making.generate(blank).images, first)
        differ(making.generate(faces, draw=1).images, first)

    def test_mixed(self, making, faces):
        every = making.mix(faces, faces, CELEBAMASK.classes).images
        same(every, making.reconstruct(faces).images)
        differ(making.mix(faces, faces, "skin").images, making.generate(faces).images)

    def test_interpolation_goes_from_one_to_the_other(self, making, faces, reconstructed):
        found = making.interpolate(faces[0], faces[1], ["hair", "skin"], [0, 0.5, 1]).images
        same(found[0], reconstructed.images[0])
        same(found[2:], making.swap_parts(faces[:1], faces[1:], ["hair", "skin"]).images)
        differ(found[1:2], found[:1])
        differ(found[1:2], found[2:])

    def test_guidance_changes_the_result_in_the_form_that_is_named(self, tiny, faces, reconstructed):
        def made(guidance, form):
            options = SamplingOptions(2, guidance=guidance, guidance_form=form)
            return Synthesizer(tiny, options).reconstruct(faces).images

        same(made(1.0, "code"), reconstructed.images)
        same(made(1.2, "paper"), made(2.2, "code"))
        differ(made(1.2, "paper"), made(1.2, "code"))

    def test_every_step_is_told(self, tiny, quick, faces, reconstructed):
        seen = []
        telling = Synthesizer(tiny, quick, on_step=lambda *step: seen.append(step))
        same(telling.reconstruct(faces).images, reconstructed.images)
        assert seen == [(1, 2), (2, 2)]

    def test_other_seeds_make_other_images(self, tiny, faces, reconstructed):
        other = Synthesizer(tiny, SamplingOptions(2, seed=7)).reconstruct(faces).images
        differ(other, reconstructed.images)


class TestEditing:
    def test_a_layout_that_stays_gives_the_photo_as_the_first_stage_has_it(self, make_tiny, faces):
        """Of a model whose noise prediction hardly depends on the latent, so that few steps are exact."""
        model = make_tiny()
        for p in model.unet.out.parameters():
            p.data *= 0.01
        calm = Synthesizer(model, SamplingOptions(5))
        kept = calm.edit(faces[:1], layouts=faces[:1], refinements=1).images
        with torch.inference_mode():
            decoded = model.first_stage.decode(model.first_stage.encode(calm._intake.images(faces[:1])))
        assert (kept - ((decoded + 1) / 2).clamp(0, 1)).abs().median() < 0.01

    def test_layouts_and_styles_change_it(self, making, faces):
        kept = making.edit(faces, layouts=faces).images
        hats = making.edit(faces, layouts=[with_hat(f) for f in reversed(faces)])  # found by id, not by position
        assert hats.notes == ("not in the reference: hat",) * 2
        differ(hats.images, kept)
        styled = making.edit(faces, references=faces[::-1], parts=["hair", "skin"])
        assert styled.notes == ("", "")
        differ(styled.images, kept)

    def test_what_cannot_be_is_said(self, making, faces, tiny):
        with pytest.raises(UserError, match=r"edit: expected layouts, references or both, got neither; nothing would"):
            making.edit(faces)
        with pytest.raises(UserError, match=r"edit: references and parts are given together"):
            making.edit(faces, references=faces)
        with pytest.raises(UserError, match=r"expected a layout for every photo, by id; got layouts x for photos 0000"):
            making.edit(faces[:1], layouts=[replace(faces[0], id="x")])
        with pytest.raises(UserError, match=r"inversion needs sampler=ddim eta=0, got sampler=ddim eta=1"):
            Synthesizer(tiny, SamplingOptions(2, eta=1.0)).edit(faces, layouts=faces)


class TestAbsentParts:
    def test_the_encoders_constant_and_a_note(self, making, faces):
        found = making.swap_style([with_hat(faces[0])], faces[1:])
        assert found.notes == ("not in the reference: hat",)

    def test_out_of_noise(self, tiny, quick, making, faces):
        drawn = Synthesizer(tiny, quick, absent="zero_image").swap_style([with_hat(faces[0])], faces[1:])
        assert drawn.notes == ("not in the reference: hat",)
        differ(drawn.images, making.swap_style([with_hat(faces[0])], faces[1:]).images)

    def test_refused(self, tiny, quick, faces):
        with pytest.raises(
            UserError,
            match=r"'00001' has no hat, which the layout '00000' has; take another reference, or set absent=zero_image",
        ):
            Synthesizer(tiny, quick, absent="refuse").swap_style([with_hat(faces[0])], faces[1:])

    def test_a_learned_token(self, make_tiny, quick, faces):
        model = make_tiny(absent_token=True)
        before = Synthesizer(model, quick).swap_style([with_hat(faces[0])], faces[1:]).images
        model.style_encoder.absent.data[14] += 3
        differ(Synthesizer(model, quick).swap_style([with_hat(faces[0])], faces[1:]).images, before)

    def test_an_unknown_way(self, tiny):
        with pytest.raises(UserError, match=r"absent: expected one of encoder, zero_image, refuse, got 'own'"):
            Synthesizer(tiny, absent="own")


class TestWhatComesIn:
    def test_photos_and_label_maps_are_paired_by_id(self, faces):
        photos = {f.id: f.photo for f in faces}
        labels = {f.id: f.labels for f in reversed(faces)}
        assert [s.labels is f.labels for s, f in zip(paired(photos, labels), faces, strict=True)] == [True, True]
        with pytest.raises(
            UserError,
            match=r"photos and label maps are paired by id: no label map for 00000 \(1 in all\); no photo for 7 \(1 in",
        ):
            paired(photos, {"00001": faces[1].labels, "7": faces[0].labels})

    def test_another_space_is_converted_by_name(self, tiny, quick, faces, reconstructed):
        table = conversion(CELEBAMASK, space("segface")).astype(np.uint8)
        others = [replace(f, labels=table[f.labels]) for f in faces]
        found = Synthesizer(tiny, quick, data_space=space("segface")).reconstruct(others)
        same(found.images, reconstructed.images)

    def test_spaces_that_do_not_fit(self, tiny):
        with pytest.raises(
            UserError, match=r"label space 'lapa' has 11 classes, the model 19; name the space that the"
        ):
            Synthesizer(tiny, space=space("lapa"))

    def test_other_sizes_are_resized(self, making, faces, reconstructed):
        big = [
            replace(f, photo=f.photo.repeat(2, 0).repeat(2, 1), labels=f.labels.repeat(2, 0).repeat(2, 1))
            for f in faces
        ]
        assert (making.reconstruct(big).images - reconstructed.images).abs().max() < 0.2
        assert making._masks(big).equal(making._masks(faces))

    def test_photos_and_label_maps_of_different_sizes(self, making, faces, reconstructed):
        apart = [replace(f, labels=f.labels.repeat(2, 0).repeat(2, 1)) for f in faces]
        assert making.reconstruct(apart).images.equal(reconstructed.images)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda f: {"labels": f.labels[:16]},
                r"'00000': the label map is 16x32, its photo 32x32, which is another aspect ratio; crop one",
            ),
            (
                lambda f: {"labels": f.labels[:16], "photo": f.photo[:16]},
                r"'00000' is 16x32, expected a square, for it becomes 32 px a side; crop or pad photo and label map",
            ),
            (
                lambda f: {"labels": f.labels * 0},
                r"'00000': the label map is all background; expected at least one part",
            ),
            (
                lambda f: {"labels": f.labels + 19},
                r"'00000': expected labels 0..18 of space 'celebamask', got 19..\d+; name",
            ),
            (lambda f: {"labels": None}, r"'00000' has no label map; parse the photo first"),
        ],
    )
    def test_a_label_map_of_no_use(self, making, faces, change, message):
        with pytest.raises(UserError, match=message):
            making.generate([replace(faces[0], **change(faces[0]))])

    def test_a_part_named_wrongly(self, making, faces):
        with pytest.raises(UserError, match=r"parts: label space 'celebamask' has no part 'hairs'; did you mean hair"):
            making.swap_parts(faces, faces, ["hairs"])

    def test_a_number_of_references_that_fits_nothing(self, making, faces):
        with pytest.raises(UserError, match=r"expected one reference, or one for each of the 1 layouts, got 2"):
            making.swap_style(faces[:1], faces)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options", [SamplingOptions(2), SamplingOptions(2, eta=1.0, guidance=1.2, guidance_form="paper")]
)
def test_an_accelerator_makes_the_same_images(make_tiny, tiny, faces, options):
    """Noise is drawn on the CPU, so only rounding differs."""
    on_device = Synthesizer(make_tiny().cuda(), options)
    for task in ("reconstruct", "generate"):
        expected = getattr(Synthesizer(tiny, options), task)(faces).images
        torch.testing.assert_close(getattr(on_device, task)(faces).images, expected, rtol=0, atol=1e-2)


class TestHalfPrecision:
    def test_it_is_near_single_precision(self, make_tiny, quick, faces, reconstructed):
        half = Synthesizer(make_tiny().in_precision(torch.float16), quick).reconstruct(faces).images
        assert (half - reconstructed.images).abs().median() < 0.02

    def test_overflow_is_named_with_the_samples(self, make_tiny, quick, faces):
        model = make_tiny()
        model.unet.out[2].weight.data *= 1e6
        with pytest.raises(
            UserError,
            match=r"the denoiser gave values .* in float16 for 00000, 00001 \(2 of 2 samples\); use bfloat16",
        ):
            Synthesizer(model.in_precision(torch.float16), quick).reconstruct(faces)

    def test_overflow_of_the_first_stage(self, make_tiny, quick, faces):
        model = make_tiny()
        model.first_stage.vq.decoder.conv_out.weight.data *= 1e6
        model.first_stage.half()
        with pytest.raises(
            UserError, match=r"the first stage gave values .* float16 for 00000 \(1 of 1 samples\); use"
        ):
            Synthesizer(model, quick).reconstruct(faces[:1])

    def test_damaged_weights_are_not_called_an_overflow(self, make_tiny, quick, faces):
        model = make_tiny()
        model.unet.out[2].weight.data[0] = float("nan")
        with pytest.raises(UserError, match=r"not finite in float32 for 00000 .*; its weights are damaged"):
            Synthesizer(model, quick).reconstruct(faces[:1])


class TestMistakes:
    def test_nothing_to_make(self, make_tiny, quick, faces):
        making = Synthesizer(make_tiny(), quick)
        with pytest.raises(UserError, match="expected at least one face, got none"):
            making.reconstruct([])
        with pytest.raises(UserError, match="interpolate: expected at least one weight, got none"):
            making.interpolate(faces[0], faces[1], "hair", [])
        with pytest.raises(UserError, match="refinements: expected 0 or more, got -1"):
            making.edit(faces[:1], faces[:1], refinements=-1)

    @pytest.mark.parametrize("spoil", [lambda p: p / 255.0, lambda p: p[..., 0], lambda p: np.dstack([p, p[..., :1]])])
    def test_a_photo_must_be_rgb_in_8_bits(self, make_tiny, quick, faces, spoil):
        bad = replace(faces[0], photo=spoil(faces[0].photo))
        with pytest.raises(UserError, match=r"'00000': expected a photo uint8 \[H, W, 3\], got "):
            Synthesizer(make_tiny(), quick).reconstruct([bad])

"""Two photos and the face made of them: squares, label spaces, what each task takes, Stop, and the record."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, conversion, space
from semfacediff.synthesis import PRESETS, SCADM, SCADMOptions, load_synthesis, save_synthesis
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.types import to_uint8
from semfacediff.web import styling, wording
from semfacediff.web.jobs import Stop, StoppedError
from semfacediff.web.pictures import ENLARGED_PX, SHOWN_PX, photo_and_parse, row
from semfacediff.web.styling import INTERPOLATION_WEIGHTS, STEPS, TASKS, StyleForm, StyleModel

QUICK = SamplingOptions(2)
HAIR = StyleForm("swap_parts", ("hair",), QUICK)
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def model(store, tiny_synthesis):
    return StyleModel(str(tiny_synthesis), store)


@pytest.fixture(scope="module")
def first(face, store):
    return styling.open_face(face(), "ada.png", store)


@pytest.fixture(scope="module")
def second(face, store):
    """Wider than high, and darker: another style."""
    with Image.open(io.BytesIO(face(96, 128))) as image:
        darker = image.point(lambda v: max(v - 20, 0))
    file = io.BytesIO()
    darker.save(file, "png")
    return styling.open_face(file.getvalue(), "bob.png", store)


class TestPhotos:
    def test_a_square_one_stays_as_it_is(self, first, face):
        with Image.open(io.BytesIO(face())) as image:
            assert np.array_equal(first.sample.photo, np.asarray(image))
        assert (first.count, first.changed, first.sample.id) == (1, "", "ada")

    def test_another_is_padded_with_white_and_its_map_with_background(self, second):
        assert (second.height, second.width, second.changed) == (96, 128, "padded with white to a square")
        photo, labels = second.sample.photo, second.sample.labels
        assert photo.shape == (128, 128, 3)
        assert (photo[:16] == 255).all()
        assert (photo[-16:] == 255).all()
        assert (labels[:16] == 0).all()
        assert (photo[16:-16] != 255).any()
        assert "hair" in {CELEBAMASK.classes[c] for c in np.unique(labels)}

    def test_a_large_one_is_scaled_however_long_it_is(self, face, store):
        found = styling.open_face(face(320, 3 * SHOWN_PX), "long.png", store)
        assert found.sample.photo.shape == (SHOWN_PX, SHOWN_PX, 3)
        assert found.changed == f"padded with white to a square and scaled to {SHOWN_PX} px a side"

    def test_of_several_faces_the_largest_is_kept(self, face, store):
        with Image.open(io.BytesIO(face(96, 96))) as large, Image.open(io.BytesIO(face(64, 64))) as small:
            both = np.zeros((96, 160, 3), np.uint8) + np.asarray(large)[0, 0]
            both[:, :96], both[16:80, 96:] = np.asarray(large), np.asarray(small)
        file = io.BytesIO()
        Image.fromarray(both).save(file, "png")
        found = styling.open_face(file.getvalue(), "two.png", store)
        assert found.count == 2
        assert not found.sample.labels[:, 110:].any()
        assert "2 faces: the largest is used; padded" in wording.face(found)

    def test_one_without_any_part_is_refused(self, face, store):
        with pytest.raises(UserError, match=r"sky.png: the parse shows no part of a face; load another photo"):
            styling.open_face(face(64, 64, 9.0), "sky.png", store)

    def test_it_is_shown_beside_its_parse(self, first):
        seen = photo_and_parse(first.sample.photo, first.sample.labels, CELEBAMASK)
        assert seen.shape == (96, 192, 3)
        assert np.array_equal(seen[:, :96], first.sample.photo)


class TestModel:
    def test_all_classes_can_be_chosen_pairs_at_once(self, model):
        assert {"hair", "lips", "eyes", "neck", "mouth", "background"} <= set(model.parts)
        assert not {"u_lip", "l_eye"} & set(model.parts)
        assert styling.part_names(space("lapa"))[:2] == ["hair", "lips"]
        assert "hat" not in styling.part_names(space("lapa"))

    def test_another_order_of_the_same_classes_is_converted(self, store, first, second, tmp_path):
        folder = tmp_path / "segface"
        save_synthesis(SCADM(PRESETS["test"]), folder, "segface")
        other = StyleModel(str(folder), store)
        made = styling.make(first, second, StyleForm("swap_style", (), QUICK), other)
        model, _ = load_synthesis(folder)
        table = conversion(CELEBAMASK, space("segface"))
        faces = [type(f.sample)(f.sample.id, f.sample.photo, table[f.sample.labels]) for f in (first, second)]
        direct = Synthesizer(model, QUICK, space("segface")).swap_style(faces[:1], faces[1:])
        assert np.array_equal(made.images[0], to_uint8(direct.images[0]))

    def test_one_that_lacks_classes_of_the_parser_is_refused(self, store, tmp_path):
        save_synthesis(SCADM(SCADMOptions(**{**vars(PRESETS["test"]), "classes": 11})), tmp_path / "lapa", "lapa")
        with pytest.raises(UserError, match="labels of space 'celebamask' cannot be converted to 'lapa'"):
            StyleModel(str(tmp_path / "lapa"), store)

    def test_a_folder_without_one_is_named(self, store, tmp_path):
        with pytest.raises(UserError, match=r"^--synthesis: .* holds no synthesis.json; expected a run of train_"):
            StyleModel(str(tmp_path), store)

    def test_a_file_of_another_kind_is_shown_as_it_begins(self, store, tmp_path):
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(UserError) as e:
            StyleModel(str(tmp_path / "notes.txt"), store)
        assert str(e.value) == (
            f"--synthesis: {tmp_path / 'notes.txt'}: not a readable weights file (expected what torch.save writes, or "
            f".safetensors, got a file that begins with 'hello'); copy it again"
        )

    def test_an_untrained_one_is_doubted(self, store, model, tmp_path):
        save_synthesis(SCADM(PRESETS["test"]), tmp_path / "raw")
        assert "model is untrained" in wording.style_model(StyleModel(str(tmp_path / "raw"), store))
        assert "model is untrained" not in wording.style_model(model)


class TestMaking:
    def test_it_is_what_the_synthesizer_makes(self, model, tiny_synthesis, first, second):
        made = styling.make(first, second, HAIR, model)
        direct = Synthesizer(load_synthesis(tiny_synthesis)[0], QUICK).swap_parts(
            [first.sample], [second.sample], ["hair"]
        )
        assert made.images.shape == (1, 32, 32, 3)
        assert np.array_equal(made.images[0], to_uint8(direct.images[0]))
        assert made.notes == ()

    def test_every_task_makes_something_of_its_own(self, model, first, second):
        made = {name: styling.make(first, second, StyleForm(name, ("hair", "skin"), QUICK), model) for name in TASKS}
        assert {name: len(m.images) for name, m in made.items()} == dict.fromkeys(TASKS, 1) | {"interpolate": 5}
        single = [m.images[0] for name, m in made.items() if name != "interpolate"]
        assert all((a != b).any() for i, a in enumerate(single) for b in single[:i])
        assert np.array_equal(made["interpolate"].images[-1], made["swap_parts"].images[0])

    def test_out_of_noise_needs_no_second_photo(self, model, first, second):
        wanted = StyleForm("generate", (), QUICK)
        alone = styling.make(first, None, wanted, model)
        assert np.array_equal(alone.images, styling.make(first, second, wanted, model).images)
        assert alone.facts["second"] is None

    @pytest.mark.parametrize(
        ("task", "have", "parts", "why"),
        [
            ("swap_parts", (), ("hair",), "Load a first photo, which provides the layout"),
            (
                "mix",
                ("first",),
                ("hair",),
                "Load a second photo, which provides the style, or choose 'All parts from noise'",
            ),
            ("interpolate", ("first", "second"), (), "Choose at least one part"),
            ("swap_parts", ("first", "second"), ("beard",), "label space 'celebamask' has no part 'beard'"),
        ],
    )
    def test_what_is_missing_is_said(self, model, first, second, task, have, parts, why):
        photos = [face if name in have else None for name, face in (("first", first), ("second", second))]
        with pytest.raises(UserError, match=why):
            styling.make(*photos, StyleForm(task, parts, QUICK), model)

    def test_a_part_that_is_nowhere_is_noted_once(self, model, first, second):
        made = styling.make(first, second, StyleForm("interpolate", ("hat",), QUICK), model)
        assert made.notes == ("not in the layout: hat",)
        assert "<li>not in the layout: hat</li>" in wording.style_result(made, model.size)

    def test_every_step_is_told_and_any_may_be_the_last(self, model, first, second):
        seen, stop = [], Stop()
        wanted = StyleForm("swap_parts", ("hair",), SamplingOptions(4))
        styling.make(first, second, wanted, model, stop, lambda *step: seen.append(step))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

        def second_step(step, of):
            seen.append(step)
            if step == 2:
                stop.request()

        seen.clear()
        with pytest.raises(StoppedError):
            styling.make(first, second, wanted, model, stop, second_step)
        assert seen == [1, 2]

    def test_all_offered_steps_can_be_taken(self):
        assert all(len(SamplingOptions(n).timesteps()) == n for n in STEPS)


class TestWhatIsShownAndKept:
    def test_the_picture_that_is_downloaded_has_the_models_own_size(self, model, first, second):
        made = styling.make(first, second, StyleForm("interpolate", ("hair",), QUICK), model)
        assert styling.picture(made).shape == (32, 32 * len(INTERPOLATION_WEIGHTS), 3)
        seen = styling.comparison(made, first, second, model.size)
        assert seen.shape == (7, 32, 32, 3)
        assert np.array_equal(seen[1:-1], made.images)
        assert row(seen).shape == (ENLARGED_PX, 7 * ENLARGED_PX + 6 * 2, 3)
        assert "enlarged to 256 px (bicubic)" in wording.style_result(made, model.size)

    def test_the_order_is_first_second_result(self, model, first, second):
        made = styling.make(first, second, HAIR, model)
        assert np.array_equal(styling.comparison(made, first, second, 32)[2], made.images[0])
        assert "first photo, second photo, result; at the model&#x27;s 32 px" in wording.style_result(made, model.size)

    def test_the_record_holds_what_repeats_it(self, model, first, second):
        options = SamplingOptions(2, seed=7, guidance=1.5, guidance_form="code")
        made = styling.make(first, second, StyleForm("mix", ("hair", "lips"), options), model)
        facts = json.loads(styling.record_text(made, model))
        assert (facts["task"], facts["parts"], facts["weights"]) == ("mix", ["hair", "lips"], None)
        sampling = {"steps": 2, "seed": 7, "guidance": 1.5, "guidance_form": "code", "sampler": "ddim"}
        assert sampling.items() <= facts["sampling"].items()
        assert facts["first"]["sha256"] == first.sha256
        assert facts["second"]["changed"] == "padded with white to a square"
        assert len(facts["model"]["digest"]) == 64
        assert facts["model"]["training"] == {"run": "nowhere"}
        assert facts["parser"] == {"name": "by_colour", "digest": "d" * 64, "label_space": "celebamask"}
        assert {"torch", "diffusers"} <= set(facts["packages"])
        again = styling.make(first, second, StyleForm("mix", ("hair", "lips"), options), model)
        assert styling.record(again, model)["image_sha256"] == facts["image_sha256"]

    def test_names_are_escaped(self, face, store, tmp_path):
        found = styling.open_face(face(), f"{EVIL}.png", store)
        assert "<script" not in wording.status_message(wording.face(found))
        save_synthesis(SCADM(PRESETS["test"]), tmp_path / "evil", training={"run": EVIL})
        assert "<script" not in wording.style_model(StyleModel(str(tmp_path / "evil"), store))

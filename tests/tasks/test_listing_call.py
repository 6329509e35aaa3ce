"""What a pipeline receives under ``protocol=thesis``, byte for byte, against the listing written down once more."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from semfacediff import config, tasks
from semfacediff.editing.diffusion import opening
from semfacediff.editing.diffusion.embeddings import PromptEmbeddings
from semfacediff.hydra_app import composed

REPOSITORY = Path(__file__).resolve().parents[2]
SIZE = 128
CLASSES = {"hair": [13], "lips": [11, 12], "eyebrows": [6, 7]}
PROMPTS = {
    "hair": "natural brown hair, smooth and shiny",
    "lips": "natural pink lipstick, glossy finish",
    "eyebrows": "well-defined dark eyebrows",
}
WORDS = (
    f"data=folder parser=ground_truth editor=sdxl_inpaint metrics=no_weights strips=0 attributes=[{','.join(CLASSES)}] "
    f"runtime.device=cpu runtime.workers=0 editor.native_size={SIZE}"
).split()
# The square is an eighth of the thesis's, the blur is not: sigma 7, kernel 15.
THESIS = ("protocol=thesis", f"working_size={SIZE}", f"region.feather_sigma_px={7 * 1024 // SIZE}")


class SpyPipeline:
    """Takes what SDXL's inpainting pipeline takes, keeps it, and returns noise."""

    def __init__(self):
        self.calls, self.schedulers = [], []
        self.image_processor = type("Processor", (), {"config": type("Config", (), {"vae_scale_factor": 8})})

    def __call__(
        self,
        prompt,
        image,
        mask_image,
        height,
        width,
        strength,
        num_inference_steps,
        guidance_scale,
        generator,
        output_type,
        negative_prompt=None,
    ):
        received = {k: v for k, v in locals().items() if k != "self"}
        self.calls.append(received | {"states": [g.get_state() for g in generator]})  # before anything is drawn
        return type(
            "Output", (), {"images": torch.stack([torch.rand(3, height, width, generator=g) for g in generator])}
        )


class SpyShared:
    """Stands for the opened pipeline."""

    tokenizers = ()

    def __init__(self, pipe):
        self.pipe = pipe
        self.guard = type("Guard", (), {"begin": lambda self, n: None, "retried": set()})()

    def scheduled(self, scheduler):
        self.pipe.schedulers.append(scheduler)
        return self.pipe

    def prompts(self, guided, opposed_by):
        return PromptEmbeddings(self.pipe, guided, opposed_by)


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_files) -> Path:
    return write_files(tmp_path_factory.mktemp("files"), [(96, 80), (128, 128)])


@pytest.fixture
def received(files, tiny_sdxl, tmp_path, monkeypatch):
    """``received(*overrides)``: the calls of a run, a photo and an attribute each, in the order of the run."""

    def run(*overrides: str) -> SpyPipeline:
        spy = SpyPipeline()
        monkeypatch.setattr(opening, "SharedPipeline", lambda *_: SpyShared(spy))
        words = [*WORDS, f"data.root={files}", f"weights.root={tiny_sdxl}", *overrides]
        settings = config.typed(composed("evaluate", words, REPOSITORY), config.EditingEvaluation)
        assert tasks.start(settings, tmp_path / "run") == 0
        return spy

    return run


def listed(root: Path, id_: str, attribute: str) -> dict:
    """What the listing's section 6 passes for one photo; its parser is the data set's own label map."""
    with Image.open(root / f"images/{id_}.png") as image:
        photo = image.convert("RGB").resize((SIZE, SIZE), Image.LANCZOS)
    with Image.open(root / f"masks/{id_}.png") as image:
        labels = np.array(image.resize((SIZE, SIZE), Image.NEAREST))
    binary = np.zeros(labels.shape, dtype=np.uint8)
    for class_ in CLASSES[attribute]:
        binary[labels == class_] = 255
    mask = Image.fromarray(cv2.GaussianBlur(binary, (15, 15), 7)).convert("L")
    return {
        "prompt": PROMPTS[attribute],
        "negative_prompt": "",
        "image": photo,
        "mask_image": mask,
        "strength": 0.90,
        "guidance_scale": 12.0,
        "num_inference_steps": 50,
        "generator": torch.Generator(device="cpu").manual_seed(42),
    }


def only(values):
    (value,) = values
    return value


def test_the_pipeline_receives_what_the_listing_passes(received, files):
    spy = received(*THESIS)
    assert spy.schedulers == ["dpmsolver++"]
    asked = [(id_, attribute) for id_ in "ab" for attribute in CLASSES]
    assert len(spy.calls) == len(asked)
    for call, (id_, attribute) in zip(spy.calls, asked, strict=True):
        expected = listed(files, id_, attribute)
        for name in ("image", "mask_image"):
            got, wanted = only(call[name]), expected[name]
            assert (got.mode, got.size, got.tobytes()) == (wanted.mode, wanted.size, wanted.tobytes()), (id_, name)
        for name in ("prompt", "negative_prompt"):
            assert only(call[name]) == expected[name]
        for name in ("strength", "guidance_scale", "num_inference_steps"):
            assert call[name] == expected[name]
        assert torch.equal(only(call["states"]), expected["generator"].get_state())
        assert (call["height"], call["width"]) == (SIZE, SIZE)  # as large as the photo: nothing is resized again
    levels = {level for call in spy.calls for level in np.unique(only(call["mask_image"]))}
    assert len(levels) > 100  # feathered, not cut


def in_whole_cells(mask) -> bool:
    pixels = np.asarray(mask)
    cells = pixels.reshape(SIZE // 8, 8, SIZE // 8, 8)
    return bool((cells == cells[:, :1, :, :1]).all()) and set(np.unique(pixels)) == {0, 255}


def test_strict_keeps_its_own_call(received, files):
    spy = received(f"working_size={SIZE}")
    assert len({only(call["states"]).numpy().tobytes() for call in spy.calls}) == len(spy.calls)  # a seed each
    asked = [(id_, attribute) for id_ in "ab" for attribute in CLASSES]
    for call, (id_, attribute) in zip(spy.calls, asked, strict=True):
        mask = only(call["mask_image"])
        assert in_whole_cells(mask)
        assert (np.asarray(mask)[np.asarray(listed(files, id_, attribute)["mask_image"]) >= 250] == 255).all()
        assert "disfigured" in only(call["negative_prompt"])


def test_either_part_of_the_call_can_be_chosen_alone(received):
    spy = received(*THESIS, "inpaint_mask=generation", "negatives=none", "data.n=1")
    assert [call["negative_prompt"] for call in spy.calls] == [None] * len(CLASSES)
    assert all(in_whole_cells(only(call["mask_image"])) for call in spy.calls)

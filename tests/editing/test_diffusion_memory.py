"""Full devices, half precision that overflows, and the switches of the memory profiles."""

import copy
import dataclasses
import sys

import pytest
import torch

from semfacediff.editing.diffusion import MemoryProfile
from semfacediff.editing.diffusion.editor import NOTE_NEGATIVE_UNREAD, NOTE_RETRIED
from semfacediff.editing.diffusion.memory import _tile, denoiser_of, ran_out_of_memory, settle
from semfacediff.errors import UserError

INT8 = "runtime.diffusion.quantise=int8"
LOW = {"vae_slicing": True, "vae_tiling": True, "offload": "model"}
NOTE_OF_4 = "out of memory with 4 at once, made with up to {}"


class Output:
    def __init__(self, images):
        self.images = images


class Full:
    """A pipeline that has room for ``n`` photos; what it makes of a photo depends on its generator alone.

    Attributes:
        seen: sizes of the batches it was given.
    """

    def __init__(self, n, error, image_processor):
        self.n, self.error, self.image_processor, self.seen, self.freed = n, error, image_processor, [], 0

    def maybe_free_model_hooks(self):
        self.freed += 1

    def __call__(self, image, generator, height, width, **_):
        self.seen.append(len(image))
        if len(image) > self.n:
            raise self.error
        return Output(torch.stack([torch.rand(3, height, width, generator=g) for g in generator]))


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
]


@pytest.fixture
def faked(plain):
    """``faked(n, error)``: an editor on a device with room for ``n`` photos, which takes all it is given at once."""

    def make(n, error=OUT_OF_MEMORY[0]):
        plain.prepare()
        editor = copy.copy(plain)
        editor.at_once, editor.pipe = None, Full(n, error, plain.pipe.image_processor)
        return editor

    return make


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: str(e)[:20])
def test_the_ways_to_say_that_memory_is_out(error):
    assert ran_out_of_memory(error)


def test_other_errors_are_other_errors(faked, requested):
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes cannot"):
        faked(1, RuntimeError("shapes cannot be multiplied")).edit([requested(0), requested(1)])


@pytest.mark.parametrize(("room", "batches"), [(4, None), (3, 2), (2, 2), (1, 1)])
def test_a_batch_that_does_not_fit_is_halved_and_says_so(faked, requested, room, batches):
    requests = [requested(i) for i in range(4)]
    editor = faked(room)
    edits = editor.edit(requests)
    assert all(torch.equal(a, b) for a, b in zip(edits, faked(99).edit(requests), strict=True))
    said = {editor.note(request) for request in requests}
    assert said == {None if batches is None else NOTE_OF_4.format(batches)}


def test_what_did_not_fit_is_not_tried_again(faked, requested):
    editor = faked(2)
    requests = [requested(i) for i in range(5)]
    first = editor.edit(requests[:4])
    assert editor.pipe.seen == [4, 2, 2]
    again = editor.edit(requests)
    assert editor.pipe.seen == [4, 2, 2, 2, 2, 1]
    assert editor.pipe.freed == 1
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=False))
    assert editor.note(requests[4]) == NOTE_OF_4.format(2)


def test_notes_are_of_the_last_edit(faked, requested):
    editor = faked(2)
    editor.edit([requested(i) for i in range(4)])
    editor.edit([requested(9)])
    assert editor.note(requested(0)) is None


def test_a_single_photo_that_does_not_fit_names_the_way_out(faked, requested):
    advice = (
        r"out of memory with a single photo at 32 px; not tried yet: runtime\.diffusion\.vae_tiling=true, "
        r"runtime\.diffusion\.quantise=int8, a smaller editor\.native_size$"
    )
    with pytest.raises(UserError, match=advice):
        faked(0).edit([requested(0), requested(1)])


@pytest.mark.parametrize(
    ("memory", "dtype", "device", "expected"),
    [
        ({}, torch.float32, "cuda", ["editor.dtype=auto", "runtime=low_memory", INT8]),
        ({"vae_slicing": True}, torch.float16, "mps", ["runtime=low_memory", INT8]),
        (LOW, torch.float16, "cuda", [INT8]),
        (LOW | {"vae_tiling": False}, torch.bfloat16, "cuda", ["runtime=low_memory", INT8]),
        (LOW | {"quantise": "int8"}, torch.float16, "cuda", []),
        ({}, torch.float32, "cpu", ["runtime.diffusion.vae_tiling=true", INT8]),
        (LOW | {"quantise": "int8"}, torch.float32, "cpu", []),
    ],
)
def test_the_advice_is_what_was_not_tried(memory, dtype, device, expected):
    settings = MemoryProfile(**memory).untried(dtype, torch.device(device))
    assert settings == [*expected, "a smaller editor.native_size"]


def test_halving_gives_what_half_the_batch_gives(inpainter, requested, monkeypatch):
    requests = [requested(i) for i in range(4)]
    editor = inpainter(fresh=True)
    editor.at_once = 2
    expected = editor.edit(requests)
    unet = editor.pipe.unet
    inner = type(unet).forward

    def forward(x, *a, **k):
        if len(x) > 4:  # two photos, each with its negative
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return inner(unet, x, *a, **k)

    monkeypatch.setattr(unet, "forward", forward)
    editor.at_once = None
    halved = editor.edit(requests)
    assert all(torch.equal(a, b) for a, b in zip(halved, expected, strict=True))
    alone = inpainter().edit(requests)
    assert max((a - b).abs().max() for a, b in zip(halved, alone, strict=True)) < 1e-4


# Half precision.


def overflowing(editor):
    """Weights that are numbers in half precision and make numbers that are none."""
    with torch.no_grad():
        editor.pipe.vae.decoder.conv_in.weight.mul_(3e4)
    return editor


@pytest.mark.slow
def test_a_vae_that_overflows_in_half_precision_is_tried_again_in_float32(inpainter, requested):
    requests = [requested(0), requested(1)]
    guarded = overflowing(inpainter(dtype="float16", vae_dtype="same", fresh=True))
    edits = guarded.edit(requests)
    assert [guarded.note(r) for r in requests] == [NOTE_RETRIED] * 2
    expected = overflowing(inpainter(dtype="float16", fresh=True))
    for edit, other in zip(edits, expected.edit(requests), strict=True):
        assert edit.std() > 0.02
        assert (edit - other).abs().mean() < 0.02  # its encoder worked in float32
    assert guarded.pipe.vae.dtype == torch.float16
    assert expected.note(requests[0]) is None


@pytest.mark.slow
def test_only_the_row_that_overflows_is_noted(inpainter, requested, monkeypatch):
    editor = inpainter(dtype="bfloat16", vae_dtype="same", fresh=True)
    editor.prepare()
    editor.at_once, inner = None, editor._guard._inner["decode"]

    def decode(z, **k):
        images = inner(z, **k)[0].clone()
        if z.dtype == torch.bfloat16:
            images[1, 0, 0, 0] = torch.inf
        return (images,)

    editor._guard._inner["decode"] = decode
    requests = [requested(i) for i in range(3)]
    editor.edit(requests)
    assert [editor.note(r) for r in requests] == [None, NOTE_RETRIED, None]


def test_an_encoder_that_overflows_is_tried_again_too(inpainter, requested):
    editor = inpainter(dtype="float16", vae_dtype="same", fresh=True)
    with torch.no_grad():
        editor.pipe.vae.encoder.conv_in.weight.mul_(3e5)
    editor.at_once = None
    requests = [requested(0), requested(1)]
    assert all(torch.isfinite(edit).all() for edit in editor.edit(requests))
    assert [editor.note(r) for r in requests] == [NOTE_RETRIED] * 2


def test_by_default_the_vae_is_float32_whatever_the_model_is(inpainter, requested):
    editor = inpainter(dtype="bfloat16")
    editor.edit([requested(0)])
    assert editor.pipe.vae.dtype == torch.float32
    assert editor.pipe.unet.dtype == torch.bfloat16
    assert editor.facts()["numerics"]["dtype"] == "bfloat16"


# Switches.


@pytest.mark.parametrize(
    "switch",
    ["attention_slicing", "vae_slicing", "vae_tiling", "channels_last", "compile", "offload"],
)
def test_no_switch_fails_on_the_cpu(inpainter, plain, requested, switch):
    memory = MemoryProfile(**{switch: "model" if switch == "offload" else True})
    request = requested(0)
    edit = inpainter(memory=memory).edit([request])[0]
    assert (edit - plain.edit([request])[0]).abs().max() < 1e-4


def test_tiles_are_smaller_than_the_photo(requested, inpainter):
    whole, tiled = (inpainter(native_size=80, memory=MemoryProfile(vae_tiling=on)) for on in (False, True))
    request = requested(0, size=(80, 80))
    difference = (whole.edit([request])[0] - tiled.edit([request])[0]).abs()
    assert 0 < difference.mean() < 0.1

    class LargeVAE:  # as SDXL's
        tile_sample_min_size, tile_latent_min_size = 1024, 128

        def enable_tiling(self):
            self.use_tiling = True

    vae = LargeVAE()
    _tile(vae)
    assert (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size) == (True, 512, 64)


def test_switches_reach_the_pipeline(inpainter):
    every = MemoryProfile(attention_slicing=True, vae_slicing=True, vae_tiling=True)
    pipe, bare = inpainter(memory=every).pipe, inpainter().pipe
    assert pipe.vae.use_slicing
    assert pipe.vae.use_tiling
    assert {type(p).__name__ for p in pipe.unet.attn_processors.values()} == {"SlicedAttnProcessor"}
    assert {type(p).__name__ for p in bare.unet.attn_processors.values()} == {"AttnProcessor2_0"}
    assert not bare.vae.use_slicing
    assert not bare.vae.use_tiling


def test_offload_compile_and_layout_are_for_accelerators():
    class Network(torch.nn.Conv2d):
        compiled = False

        def __init__(self):
            super().__init__(8, 8, 3)

        def compile(self):
            self.compiled = True

    class Pipe:
        def __init__(self):
            self.unet, self.vae, self.at = Network(), Network(), None

        def to(self, device):
            self.at = device

        def enable_model_cpu_offload(self, device):
            self.at = ("by parts", device)

    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    both = MemoryProfile(offload="model", compile=True, channels_last=True)
    for device, expected in ((cpu, (cpu, False)), (cuda, (("by parts", cuda), True))):
        pipe = Pipe()
        settle(pipe, both, device)
        assert (pipe.at, denoiser_of(pipe).compiled) == expected
        for network in (pipe.unet, pipe.vae):
            assert network.weight.is_contiguous(memory_format=torch.channels_last) == (device == cuda)


def test_eight_bits_need_their_library(inpainter, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UserError, match=r"quantise=int8 needs the package torchao; install it \(pip install torchao\)"):
        inpainter(memory=MemoryProfile(quantise="int8"), fresh=True)


def test_what_changes_results_is_among_the_facts(inpainter):
    facts = inpainter(memory=MemoryProfile(vae_tiling=True, vae_slicing=True)).facts()
    assert facts["numerics"] == {"dtype": "float32", "vae_tiling": True, "quantise": "none"}


@pytest.mark.parametrize(("opposed_by", "said"), [(None, 1), ("guidance_scale", 0)])
def test_a_negative_prompt_that_a_pipeline_cannot_be_told_is_noted(faked, requested, opposed_by, said):
    editor = faked(2)
    editor.call = dataclasses.replace(editor.call, opposed_by=opposed_by)
    plain, negative = requested(0), requested(1, negative_prompt="blurry")
    editor.edit([plain, negative])
    assert not editor.note(plain)
    assert (editor.note(negative) or "").count(NOTE_NEGATIVE_UNREAD) == said

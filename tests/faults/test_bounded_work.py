"""Small inputs that would ask for hours of work."""

import time

import numpy as np
import pytest
import torch

from semfacediff import cli, config
from semfacediff.colours.grammar import find_colours, refused_colours
from semfacediff.errors import UserError
from semfacediff.parsing import ModelParser
from semfacediff.parsing.checkpoint import ParserCard
from semfacediff.regions.portraits import parse_faces
from semfacediff.web.jobs import Stop, StoppedError


class Unsure(torch.nn.Module):
    """Sees nothing anywhere, so that every window is looked at."""

    def __init__(self):
        super().__init__()
        self.parses = 0

    def forward(self, x):
        self.parses += 1
        return x.new_zeros(len(x), 19, *x.shape[2:])


@pytest.fixture
def unsure():
    card = ParserCard("unsure", "celebamask", 32, [0.0] * 3, [1.0] * 3, {}, {})
    model = Unsure()
    return model, ModelParser(model, card, torch.device("cpu"))


@pytest.mark.parametrize(("height", "width"), [(60000, 32), (32, 60000), (40, 4000), (32, 321)])
def test_a_strip_is_refused_before_it_is_parsed(unsure, height, width):
    model, parser = unsure
    why = (
        rf"^strip.png: {width}x{height} px; to be parsed, a photo's longer side may be at most 10 times the shorter "
        rf"one; crop it$"
    )
    with pytest.raises(UserError, match=why):
        parse_faces(parser, np.zeros((height, width, 3), np.uint8), "strip.png")
    assert model.parses == 0


@pytest.mark.parametrize(("height", "width"), [(32, 320), (320, 32), (900, 90), (33, 200)])
def test_the_longest_photo_takes_a_bounded_number_of_parses(unsure, height, width):
    model, parser = unsure
    parse_faces(parser, np.zeros((height, width, 3), np.uint8))
    assert 100 < model.parses <= 1 + 2 * 120


@pytest.mark.parametrize(("height", "width", "parses"), [(90, 90, 35), (90, 135, 56), (90, 360, 161)])
def test_photos_of_up_to_four_to_one_are_searched_as_densely_as_square_ones(unsure, height, width, parses):
    """3 x 3 and 5 x 5 windows in a square one, and the whole of it."""
    model, parser = unsure
    parse_faces(parser, np.zeros((height, width, 3), np.uint8))
    assert model.parses == parses


def test_stop_is_heard_between_the_windows(unsure):
    model, parser = unsure
    stop = Stop()

    def before_each():
        if model.parses == 7:
            stop.request()
        stop.check()

    with pytest.raises(StoppedError):
        parse_faces(parser, np.zeros((90, 90, 3), np.uint8), before_each=before_each)
    assert model.parses == 7


def test_of_a_folder_a_strip_fails_alone(tmp_path, capsys):
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("L", (60000, 32)).save(photos / "a.png")
    Image.new("L", (64, 64), 90).save(photos / "b.png")
    assert cli.main(["parse", str(photos), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    assert "a.png: 60000x32 px; to be parsed" in capsys.readouterr().err
    assert (tmp_path / "out" / "b.png").exists()


@pytest.mark.parametrize(
    "words",
    ["red green ", "dark blue and red, ", "dark ", "not dark red ", "red foo ", "from red to blue ", "or not "],
)
def test_the_search_for_colours_takes_linear_time(words):
    """Eight times the words take eight times as long; a quadratic search takes 64 times as long."""

    def seconds(n: int) -> float:
        prompt = words * (n // len(words.split()))
        start = time.process_time()
        find_colours(prompt, "hair")
        refused_colours(prompt, "hair")
        return time.process_time() - start

    seconds(50)
    assert seconds(1600) < 25 * max(min(seconds(200) for _ in range(3)), 1e-3)


@pytest.mark.parametrize("prompt", ["red " * 501, "x" * 2001, "\u00e4" * 100_000])
def test_a_prompt_has_a_limit(prompt):
    assert config.without_words("x" * 2000) is None
    assert config.without_words(prompt) == f"has {len(prompt)} characters, over the limit of 2000"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["hair", "red " * 8000],
            "cascade: the prompt of stage 1 ('hair') has 32000 characters, over the limit of 2000",
        ),
        (
            ["hair", "red", "--negative", "x" * 3000],
            "error: --negative: the negative prompt has 3000 characters",
        ),
    ],
)
def test_the_command_refuses_a_longer_one_at_once(words, why, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    assert cli.main(["edit", str(tmp_path / "a.png"), *words, "--out", str(tmp_path / "out")]) == 2
    assert why in capsys.readouterr().err

"""The lexicon in use, and CLIP's tokenizer without a download."""

import gzip

import pytest
from open_clip.tokenizer import bytes_to_unicode, default_bpe

from semfacediff.tasks.editing.prompts import read_lexicon


@pytest.fixture(scope="session")
def words():
    return read_lexicon()


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import CLIPTokenizer

    with gzip.open(default_bpe()) as file:
        lines = file.read().decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(f"{c}</w>" for c in letters), *("".join(m) for m in merges)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    made = CLIPTokenizer(vocab={v: i for i, v in enumerate(vocabulary)}, merges=merges, model_max_length=77)
    assert len(made) == 49408
    return made

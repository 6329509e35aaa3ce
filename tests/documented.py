"""The command lines of README and docs, in the words that a shell would hand to the program."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = ("evaluate", "train_parser", "train_synthesis")
_SHELL = ("", "bash", "sh")
_PROGRAMS = r"(?:[A-Z_]+=\S+ )*(?:semfacediff|python|make(?! the )|pip|torchrun|wandb|accelerate) "
_ALTERNATIVES = re.compile(r"[\w<>.,-]+(\|[\w<>.,-]+)+")
_VALUES = {"data=": "data=toy", "N": "2", "COMMAND": "doctor", "OWNER/MODEL": "owner/model"}
"""Placeholders that a program would refuse, with a value that it takes; ``DIR``, ``RUN`` and the like are paths."""


@dataclass(frozen=True)
class Command:
    """``words`` without the notation of the docs: optional words are given, of alternatives the first."""

    page: str
    text: str
    words: tuple[str, ...]
    of_text: bool
    """Whether it is part of a sentence or a table, not a line of its own."""

    @property
    def script(self) -> str | None:
        """The script that reads the words by Hydra, if one does."""
        name = self.words[1].replace("-", "_") if self.words[0] == "semfacediff" else None
        named = [Path(word).stem for word in self.words if word.endswith(".py") and "/" not in word]
        return next((n for n in (name, *named) if n in SCRIPTS), None)

    @property
    def after(self) -> tuple[str, ...]:
        """The words after the subcommand or script."""
        ends = [i for i, word in enumerate(self.words) if Path(word).stem.replace("-", "_") == self.script]
        return self.words[(ends or [0])[0] + 1 :]


def commands(repository: Path) -> list[Command]:
    """Of the README first, then page by page, in the order of the text."""
    pages = [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]
    return [command for page in pages for command in _of_page(page)]


def _of_page(page: Path) -> list[Command]:
    found, fence = [], None
    for line in page.read_text("utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = line[3:].strip() if fence is None else None
        elif fence is not None or re.match(r"    \S", line):
            if fence is None or fence in _SHELL:
                found += [(text, False) for text in _lines(line) if re.match(_PROGRAMS, f"{text} ")]
        else:
            inline = [text.replace(r"\|", "|") for text in re.findall(r"`([^`]+)`", line)]
            inline = [text for text in inline if re.match(_PROGRAMS + r"\S", text)]
            found += [(text, True) for several in inline for text in _lines(several)]
    made = [Command(page.name, text, tuple(_words(text)), of_text) for text, of_text in found]
    return [command for command in made if len(command.words) > 1 and command.words[-1] != "-"]


def _lines(line: str) -> list[str]:
    """The commands of a line: ``a; b``, ``a && b # comment``."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(";&"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [shlex.join(part) for part in parts if part]


def _words(text: str) -> list[str]:
    words = []
    for word in shlex.split(text, comments=True):
        word = word.removeprefix("[")
        while word.count("]") > word.count("["):
            word = word[: word.rindex("]")] + word[word.rindex("]") + 1 :]
        word = word.removesuffix("...")
        if _ALTERNATIVES.fullmatch(word):
            word = word.partition("|")[0]
        word = _VALUES.get(word, word)
        if word and word not in ("KEY=VALUE", "--dry-run") and not (not words and re.fullmatch(r"[A-Z_]+=\S*", word)):
            words.append(word)
    return words

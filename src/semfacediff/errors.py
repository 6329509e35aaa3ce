"""The exception a user's mistake raises, and the form in which strange names are shown."""

EXIT_INCOMPLETE = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


class UserError(ValueError):
    """A mistake that the user can fix: one sentence saying what was expected, what was got, where, and what to do.

    Entry points print the sentence on stderr and exit with code 2, without a traceback. Everything else that escapes
    is a defect of the framework and keeps its traceback.

    Args:
        args: the sentence, then details that are shown on lines of their own.
    """

    def __str__(self) -> str:
        return "\n  ".join(printable(str(line)) for line in self.args)


class FatalError(UserError):
    """A mistake that every further item would meet as well, such as a full disk: it ends the command."""


def printable(text: str) -> str:
    """``text`` on one line, with escapes for what a terminal would obey or cannot show.

    File names may hold line feeds, terminal sequences and bytes that are not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

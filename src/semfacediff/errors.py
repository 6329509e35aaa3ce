"""The one exception a user's mistake raises."""


class UserError(ValueError):
    """A mistake that the user can fix: one sentence saying what was expected, what was got, where, and what to do.

    Entry points print the sentence on stderr and exit with code 2, without a traceback. Everything else that escapes
    is a defect of the framework and keeps its traceback.
    """

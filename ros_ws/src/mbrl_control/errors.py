"""The mistake of a user, told in one line. Imports nothing, so that a command line that is mistyped answers at once."""


class MbrlError(Exception):
    """A mistake of the user's, told in one line: the thing, its value, and what would be accepted."""

"""The one error that ends a run with a message instead of a traceback."""


class Failure(Exception):
    """Something that the user has to know in one line."""

"""What ends a measurement."""


class BenchFailed(Exception):
    """The numbers would mean nothing: a sentence that says why."""

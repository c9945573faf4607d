from typing import NamedTuple


class Mutation(NamedTuple):
    """What is broken in words, the file and its text before and after, and pytest's arguments for who should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

"""How far the random histories went."""


class Steps:
    """Steps taken in this process."""

    taken = 0


STEPS = Steps()

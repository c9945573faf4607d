"""What may name a customer."""

from app.config import CUSTOMER_ID_CHARACTERS_MAX


def is_customer_id(text: str) -> bool:
    """Whether a text is 1 to 255 printable characters without `/`, and not `.` or `..`: it stands in paths."""
    good = 0 < len(text) <= CUSTOMER_ID_CHARACTERS_MAX and text.isprintable() and "/" not in text
    return good and text not in (".", "..")

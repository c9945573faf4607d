"""Which web pages may speak to us: the server's own origin, and those that the settings name."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from app.config import Config


def allowed_origin(origin: str, host: str, config: Config) -> bool:
    """Whether a page of that origin may listen, buy and be returned to.

    Args:
        origin: e.g. `https://app.example.com`.
        host: the request's `Host`, where our own pages come from.
        config: its `allowed_origins` and `public_url` are allowed too.

    """
    try:
        split = urlsplit(origin)
    except ValueError:
        return False
    if split.scheme not in ("http", "https") or not split.netloc:
        return False
    if split.netloc.lower() == host.lower():
        return True
    named = (*config.allowed_origins, *((config.public_url,) if config.public_url else ()))
    return f"{split.scheme}://{split.netloc}".lower() in named


def allowed_page(url: str, host: str, config: Config) -> bool:
    """Whether a buyer may be sent there after paying."""
    try:
        split = urlsplit(url)
    except ValueError:
        return False
    return "@" not in split.netloc and allowed_origin(f"{split.scheme}://{split.netloc}", host, config)


def socket_origin_allowed(headers: Mapping[bytes, bytes], config: Config) -> bool:
    """Whether a websocket's handshake may go on. One without an `Origin` comes from no browser."""
    origin = headers.get(b"origin")
    if origin is None:
        return True
    return allowed_origin(origin.decode("latin-1"), headers.get(b"host", b"").decode("latin-1"), config)

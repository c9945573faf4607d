"""The widget's file, and the address under which one version of it never changes."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Final

from app import __version__

_HERE: Final = Path(__file__).resolve().parent.parent
STATIC: Final = next(folder for folder in (_HERE / "static", _HERE.parent / "static") if folder.is_dir())
"""`static/`: inside of the package where it is installed, beside it in a checkout."""
WIDGET: Final = "widget.js"
"""Its name in `static/`, under which whatever version a server has is served."""
PINNED: Final = f"widget-{__version__}.js"
"""The name of this version alone."""
_A_VERSION: Final = r"[0-9]{1,9}(\.[0-9]{1,9}){1,3}((a|b|rc)[0-9]{1,9})?(\.post[0-9]{1,9})?(\.dev[0-9]{1,9})?"
_OF_A_VERSION: Final = re.compile(rf"widget-{_A_VERSION}\.js")


def is_of_a_version(name: str) -> bool:
    """Whether a name is that of the widget's file in some version, ours or another."""
    return name == PINNED or _OF_A_VERSION.fullmatch(name) is not None


def integrity() -> str:
    """What a browser checks this version's file against, as a script tag says it."""
    return "sha384-" + base64.b64encode(hashlib.sha384((STATIC / WIDGET).read_bytes()).digest()).decode()

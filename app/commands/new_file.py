"""A new file for what a command writes out."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from app.errors import StartRefused


@contextlib.contextmanager
def new_file(path: Path, *, keep_empty: bool) -> Iterator[BinaryIO]:
    """A file that has its name once it is whole, and until then `.part` behind it; what fails leaves neither.

    So a command that was interrupted finds its way clear when it is run again.

    Args:
        path: where to; what is there is never overwritten, but for a part that was left behind.
        keep_empty: whether the file is made though nothing was written.

    Raises:
        StartRefused: something is there already, or no file can be made there.
        OSError: it cannot be written.

    """
    if path.exists():
        raise StartRefused(f"{path} is there already, and is not overwritten: move it away, or name another file.")
    part = path.with_name(path.name + ".part")
    try:
        file = part.open("wb")
    except FileNotFoundError as error:
        raise StartRefused(f"{path} cannot be made: its folder does not exist.") from error
    except OSError as error:
        raise StartRefused(f"{path} cannot be made: {error.strerror}.") from error
    try:
        with file:
            yield file
            file.flush()
            kept = keep_empty or file.tell() > 0
            os.fsync(file.fileno())
        if kept:
            part.rename(path)
        else:
            part.unlink()
    except BaseException:
        part.unlink(missing_ok=True)
        raise

"""static/widget.d.ts, as TypeScript and React read it."""

import subprocess

from browser.conftest import FRAMEWORKS

SECONDS_MAX = 60


def test_types_take_every_use_and_find_every_mistake(node: str) -> None:
    compiler = FRAMEWORKS / "node_modules" / "typescript" / "bin" / "tsc"
    done = subprocess.run(
        [node, str(compiler), "-p", "."], cwd=FRAMEWORKS, timeout=SECONDS_MAX, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()

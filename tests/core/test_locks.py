"""One run at a time writes to a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmrl.core.config import InputError
from mmrl.core.locks import Lock, alone

HOLD = """
import sys
from pathlib import Path
from mmrl.core.locks import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_a_folder_is_refused_to_a_second_run_until_the_first_ends_however_it_ends(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert holder.stdout
    holder.stdout.readline()
    with pytest.raises(InputError, match=rf"another run \(process {holder.pid}\) is writing to {out}"), alone(out):
        pass
    with alone(out, needed=False):  # another process of the same run
        pass
    with alone(tmp_path / "runs" / "b"):
        pass
    holder.kill()
    holder.wait()
    with alone(out):
        pass
    assert not any((tmp_path / "runs").iterdir())


def test_the_root_is_no_output() -> None:
    with pytest.raises(InputError, match="name a folder in it"):
        Lock(Path("/"))

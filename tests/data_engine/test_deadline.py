"""A decoder that hangs: its process is ended, whether it is at work or waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

HANGING = "import time\nfrom data_engine.media.deadline import *\nfrom data_engine.schema import Media\n"


@pytest.mark.parametrize(
    ("hangs", "ended_by"), [("while True: pass", signal.SIGPROF), ("time.sleep(20)", signal.SIGALRM)]
)
def test_a_process_that_hangs_is_ended(hangs: str, ended_by: signal.Signals) -> None:
    code = f"{HANGING}spare_process()\nwith within(0.1, Media('image', bytes=b'')):\n    {hangs}"
    since = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == -ended_by
    assert time.monotonic() - since < 15


def test_nothing_is_ended_in_time_or_where_the_process_is_needed() -> None:
    code = f"{HANGING}with within(0.01, Media('image')):\n    time.sleep(0.2)\nspare_process()\n"
    code += "with within(0.01, Media('image')):\n    pass\ntime.sleep(0.2)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

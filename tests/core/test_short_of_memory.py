"""A machine that is short of something is not the fault of a file: the run ends, and no sample is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmrl.core.config import RunError
from mmrl.core.media.damage import zeros_fault
from mmrl.core.media.files import MediaError, check_machine
from mmrl.core.media.image import _pillow_errors
from mmrl.core.media.probe import probe
from tests.support.clips import write_clip
from tests.support.odd_media import SKLEARN

SHORT = """
import resource, sys
from pathlib import Path
from mmrl.core.media.image import load_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20, resource.RLIM_INFINITY))
try:
    load_image(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_sound_picture_is_not_refused_for_lack_of_memory(tmp_path: Path) -> None:
    Image.new("L", (9000, 9000), 200).save(tmp_path / "large.png", compress_level=1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SHORT, str(tmp_path / "large.png")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.stdout.startswith(f"RunError {tmp_path / 'large.png'} could not be read"), run.stdout + run.stderr
    assert "memory is short" in run.stdout


def test_a_decoder_that_wants_absurd_amounts_for_a_file_is_no_shortage() -> None:
    with pytest.raises(MediaError, match="does not decode: MemoryError"), _pillow_errors(b"damaged"):
        raise MemoryError


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_a_fault_of_the_disk_or_the_system_ends_the_run(code: int) -> None:
    with pytest.raises(RunError, match=r"a\.png could not be read, which is no fault of the file"):
        check_machine(OSError(code, "", "a.png"), "a.png")
    check_machine(OSError(errno.ENOENT, "", "a.png"), "a.png")
    check_machine(OSError("image file is truncated"), "a.png")


@pytest.mark.parametrize("form", ["webp", "avif"])
def test_a_picture_whose_end_is_zeros_is_refused(form: str, tmp_path: Path) -> None:
    place = tmp_path / f"a.{form}"
    Image.open(SKLEARN / "china.jpg").save(place, quality=80)
    assert probe(place).width == 640
    whole = place.read_bytes()
    for start in (len(whole) // 2, len(whole) * 3 // 5):
        place.write_bytes(whole[:start].ljust(len(whole), b"\0"))
        with pytest.raises(MediaError, match=r"bytes are zeros in one piece|does not decode|not an image"):
            probe(place)


def test_a_clip_whose_end_is_zeros_is_refused(tmp_path: Path) -> None:
    place = write_clip(tmp_path / "a.avi", 40, codec="mpeg4")
    assert probe(place).num_frames == 40
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    with pytest.raises(MediaError):
        probe(place)


def test_zeros_are_counted_across_pieces_of_a_file(tmp_path: Path) -> None:
    for zeros, found in ((2**20 * 2, True), (2**20 // 8, False)):
        (tmp_path / "a").write_bytes(b"x" * (2**20 - 7) + b"\0" * zeros + b"x" * 2**20)
        with (tmp_path / "a").open("rb") as file:
            assert bool(zeros_fault(file)) is found

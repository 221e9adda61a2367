"""Without the extra `data`, judges still see images; what needs more says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.clips import write_clip
from tests.support.odd_media import SKLEARN

CODE = """
import sys
for name in ("av", "decord", "simplejpeg", "torch", "transformers"):
    sys.modules[name] = None
import rewards
from mmrl.core.config import InputError
from mmrl.core.media.image import image_size
from rewards.judge_client.judge_media import Shown, data_uris

picture, clip = (rewards.Media(kind, path) for kind, path in zip(("image", "video"), sys.argv[1:]))
print(*(uri[:22] for uri in data_uris(Shown(picture), 1000, 4)))
from pathlib import Path
for work in (lambda: data_uris(Shown(clip), 1000, 4), lambda: image_size(Path(picture.path), decode=True)):
    try:
        work()
    except InputError as error:
        print(error)
"""


def test_images_need_no_more_than_pillow(tmp_path: Path) -> None:
    clip, picture = write_clip(tmp_path / "a.mp4", 4), SKLEARN / "china.jpg"
    run = subprocess.run([sys.executable, "-c", CODE, str(picture), str(clip)], capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "data:image/jpeg;base64",
        "videos are read with PyAV: pip install 'mmrl-stack[data]'",
        "probing JPEG files takes simplejpeg: pip install 'mmrl-stack[data]'",
    ], run.stderr

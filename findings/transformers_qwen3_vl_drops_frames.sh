#!/bin/sh
# transformers 5.23.0: given the frames of a video, Qwen3-VL's processor throws eleven of twelve away.
#
# People who choose frames themselves hand them over as a list. Without metadata the processor takes them for a video of
# 24 frames a second, and samples two a second of it, as it would of a file. A warning says that it assumes 24 frames a
# second; that frames are dropped it does not say. Qwen2-VL's processor keeps what it is given. `do_sample_frames=False`
# keeps them here too, and so does metadata with the true rate.
#
# Seen: of 48 frames Qwen3-VL keeps 4, with `do_sample_frames=False` 48, with a rate of 2 a second 48; Qwen2-VL 48.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 torch==2.14.1 torchvision==0.29.1 numpy==2.2.6
cat > "$folder/ask.py" <<'PYTHON'
import numpy as np
from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

FRAMES = np.stack([np.full((224, 224, 3), 5 * number, np.uint8) for number in range(48)])


def kept(processor, **options):
    """A row of patches spans two frames."""
    return 2 * int(processor(videos=[FRAMES], return_tensors="pt", **options)["video_grid_thw"][0, 0])


third = Qwen3VLVideoProcessor()
print("Qwen3-VL:", kept(third))
print("Qwen3-VL, do_sample_frames=False:", kept(third, do_sample_frames=False))
print("Qwen3-VL, two a second:", kept(third, video_metadata=[{"fps": 2.0, "total_num_frames": 48}]))
print("Qwen2-VL:", kept(Qwen2VLVideoProcessor()))
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" > "$folder/seen" 2> "$folder/said" || { cat "$folder/said"; exit 1; }
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
Qwen3-VL: 4
Qwen3-VL, do_sample_frames=False: 48
Qwen3-VL, two a second: 48
Qwen2-VL: 48
SEEN

#!/bin/sh
# qwen-vl-utils 0.0.14: the model is told that frames lie closer together than they do.
#
# `fetch_video` takes n frames from the first to the last, so they are (length - 1 frame) / (n - 1) apart. The `fps` that
# it returns for the processor is n / length. Qwen2.5-VL makes the times of its positions of it. Two seconds of ten
# frames each, sampled at two a second, are four frames at 0, 0.6, 1.3 and 1.9 s, told as 0, 0.5, 1 and 1.5 s. At any
# length the last frame is told nearly one interval too early, which matters where the answer is a time. With
# return_video_metadata, which Qwen3-VL wants, the true places of the frames come along.
#
# Seen: for two and for eight seconds, the last frame as taken and as told.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet qwen-vl-utils==0.0.14 decord==0.6.0 av==18.1.0 numpy==2.2.6 torch==2.14.1 torchvision==0.29.1
cat > "$folder/ask.py" <<'PYTHON'
import sys

import av
import numpy as np
from qwen_vl_utils import process_vision_info

RATE = 10
for seconds in (2, 8):
    path, total = f"{sys.argv[1]}/{seconds}.mp4", RATE * seconds
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.options = 112, 112, "yuv420p", {"crf": "1"}
        for number in range(total):
            grey = np.full((112, 112, 3), 3 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(stream.encode(None))
    asked = [{"role": "user", "content": [{"type": "video", "video": path, "fps": 2.0}]}]
    _, (frames,), told = process_vision_info(asked, return_video_kwargs=True)
    last = round(float(frames[-1].mean()) / 3)  # the brightness is three times the number of the frame
    print(f"{seconds} s, {len(frames)} frames: the last at {last / RATE:.2f} s, told {(len(frames) - 1) / told['fps'][0]:.2f} s")
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" "$folder" > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
2 s, 4 frames: the last at 1.90 s, told 1.50 s
8 s, 16 frames: the last at 7.90 s, told 7.50 s
SEEN

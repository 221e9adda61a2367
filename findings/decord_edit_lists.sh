#!/bin/sh
# decord 0.6.0: in a clip that was cut without encoding anew, frames of a batch come out of order.
#
# A clip cut by copying packets begins at the key frame before the cut, and an edit list in the MP4 hides the frames
# between. Players and PyAV show the clip from the cut on. decord counts the hidden frames too. Read from the beginning
# a place counts shown frames; reached by a jump to a key frame it counts hidden ones as well. So the same index is two
# frames, and samples for a video model, which jump, go back in time. Time stamps begin below zero.
#
# Seen: fifty frames whose brightness is their number, a key frame each ten, cut at frame 16. PyAV shows 34 frames,
# 16 to 49. decord says 40, and a batch of every fifth frame is 16, 21, 20, 25, 30, 35, 40, 45; read one after another
# the first seven of these indices are 16, 21, 26, 31, 36, 41, 46.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet decord==0.6.0 av==18.1.0 numpy==2.2.6
cat > "$folder/ask.py" <<'PYTHON'
import sys

import av
import decord
import numpy as np

whole, clip = f"{sys.argv[1]}/whole.mp4", f"{sys.argv[1]}/clip.mp4"
with av.open(whole, "w") as file:
    stream = file.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    stream.options = {"crf": "5", "g": "10", "keyint_min": "10", "sc_threshold": "0"}
    for number in range(50):
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 5 * number, np.uint8), format="rgb24")
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))

with av.open(whole) as file, av.open(clip, "w", options={"avoid_negative_ts": "disabled"}) as cut:
    stream = file.streams.video[0]
    copied, unit = cut.add_stream_from_template(stream), int(1 / (25 * stream.time_base))
    for packet in file.demux(stream):
        if packet.dts is not None and packet.pts >= 10 * unit:
            packet.pts, packet.dts = packet.pts - 16 * unit, packet.dts - 16 * unit
            packet.stream = copied
            cut.mux(packet)


def number(pixels):
    return round(float(pixels.mean()) / 5)


with av.open(clip) as file:
    shown = [number(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
print("PyAV:", len(shown), "frames, from", shown[0], "to", shown[-1])
reader = decord.VideoReader(clip)
print("decord:", len(reader), "frames, the first at", round(float(reader.get_frame_timestamp(0)[0]), 2), "s")
print("every fifth:", [number(frame) for frame in reader.get_batch(range(0, 40, 5)).asnumpy()])
reader = decord.VideoReader(clip)
print("in turn:", [number(reader[place].asnumpy()) for place in range(33)][::5])
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" "$folder" > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
PyAV: 34 frames, from 16 to 49
decord: 40 frames, the first at -0.24 s
every fifth: [16, 21, 20, 25, 30, 35, 40, 45]
in turn: [16, 21, 26, 31, 36, 41, 46]
SEEN

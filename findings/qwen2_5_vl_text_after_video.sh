#!/bin/sh
# transformers 5.23.0: the text behind a video of Qwen2.5-VL stands at positions that frames of the video have, too.
#
# The rotary positions of text continue behind those of the vision tokens. transformers 4.49.0, the first release of
# that model, continues at the largest position of the video plus one, on all three axes. 5.23.0 continues at the
# start of the video plus its larger side in tokens. A video that has more time positions (two a second) than its side
# has tokens then shares positions with the text behind it: the question is asked amid the frames. The model was
# pretrained with the first rule, and vLLM 0.32 keeps to it, so the log-probs of a rollout engine and of a trainer
# disagree on videos alone.
#
# Seen, for a film of eight seconds with 2 x 2 tokens a second: text at 16 in 4.49.0, at 3 in 5.23.0.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 torchvision pillow transformers==5.23.0
"$folder/venv/bin/pip" install --quiet --target "$folder/first" transformers==4.49.0
cat > "$folder/ask.py" <<'PYTHON'
import inspect

import torch
import transformers
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling

VIDEO, START, TEXT = 90, 91, 5
config = Qwen2_5_VLConfig()
config.image_token_id, config.video_token_id, config.vision_start_token_id = 89, VIDEO, START
config.vision_config.tokens_per_second = 2
classes = [getattr(modeling, name) for name in ("Qwen2_5_VLModel", "Qwen2_5_VLForConditionalGeneration")]
owner = next(cls for cls in classes if hasattr(cls, "get_rope_index"))


class Asked(owner):
    def __init__(self):  # the positions need no weights
        object.__setattr__(self, "config", config)


ids = torch.tensor([[START] + [VIDEO] * 32 + [TEXT, TEXT]])
arguments = {
    "video_grid_thw": torch.tensor([[8, 4, 4]]),
    "second_per_grid_ts": torch.tensor([1.0]),
    "attention_mask": torch.ones_like(ids),
}
if "mm_token_type_ids" in inspect.signature(owner.get_rope_index).parameters:
    arguments["mm_token_type_ids"] = (ids == VIDEO).int() * 2
positions, _ = Asked().get_rope_index(ids, **arguments)
print(transformers.__version__, int(positions[:, 0, 1:33].max()), int(positions[0, 0, 33]))
PYTHON
PYTHONPATH="$folder/first" "$folder/venv/bin/python" "$folder/ask.py" 2>/dev/null > "$folder/seen"
"$folder/venv/bin/python" "$folder/ask.py" 2>/dev/null >> "$folder/seen"
echo "version, largest position of the video, position of the text behind it:"
cat "$folder/seen"
printf '4.49.0 15 16\n5.23.0 15 3\n' | diff - "$folder/seen" || { echo "the behaviour has changed"; exit 1; }

#!/bin/sh
# transformers 5.23.0: AutoModel gives Qwen2.5-VL a random vision tower where the file has today's names of weights.
#
# In memory the tower is called `model.visual`. Files have that name if they are written with
# `save_original_format=False`, or from the state dict itself.
# Qwen2_5_VLForConditionalGeneration reads them. AutoModel, by which embeddings and reward heads take the backbone, renames
# the weights of the file to `model.language_model.visual`, finds no such part, and draws the whole tower anew. A table of
# missing weights stands among the log lines; there is no error. Qwen3-VL is read rightly either way.
#
# Seen, for tiny random models, written in both formats and read by AutoModel: how many weights are missing, and whether
# the patch embedding is that of the file.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 torchvision pillow transformers==5.23.0
cat > "$folder/read.py" <<'PYTHON'
import sys

import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
text |= {"num_key_value_heads": 2, "head_dim": 16, "bos_token_id": 1, "eos_token_id": 2}
vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
for family, more in (("qwen2_5_vl", {"fullatt_block_indexes": [0]}), ("qwen3_vl", {"deepstack_visual_indexes": [0]})):
    config = AutoConfig.for_model(family, text_config=text, vision_config=vision | more)
    model = AutoModelForImageTextToText.from_config(config)
    for original in (True, False):
        model.save_pretrained(sys.argv[1], save_original_format=original)
        read, told = AutoModel.from_pretrained(sys.argv[1], output_loading_info=True)
        first = [each.visual.patch_embed.proj.weight for each in (model.model, read)]
        print(family, "first names" if original else "new names", len(told["missing_keys"]), torch.equal(*first))
PYTHON
"$folder/venv/bin/python" "$folder/read.py" "$folder/model" 2>/dev/null > "$folder/seen"
echo "family, names in the file, missing weights, the tower is that of the file:"
cat "$folder/seen"
printf 'qwen2_5_vl first names 0 True\nqwen2_5_vl new names 18 False\nqwen3_vl first names 0 True\nqwen3_vl new names 0 True\n' |
  diff - "$folder/seen" || { echo "the behaviour has changed"; exit 1; }

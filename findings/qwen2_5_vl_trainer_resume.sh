#!/bin/sh
# transformers 5.23.0: Trainer resumes a Qwen2.5-VL from the weights at hand, not from those of the checkpoint.
#
# save_pretrained writes this family under the names of its first release (`visual...`, `model.layers...`), and
# from_pretrained reads them back. Trainer.train(resume_from_checkpoint=...) reads the same file by load_state_dict,
# without that renaming and without strict names. Only the output layer has one name in both. The optimizer, the step
# and the random state do come from the checkpoint, so the run goes on with the moments of other weights. Two log
# lines about missing and unexpected keys are all there is to see.
#
# Seen: from_pretrained gives 57 of 57 tensors as trained; after resuming, 56 of 57 are as before the checkpoint was
# read. Whoever loads the model from the checkpoint's folder first, and then resumes, has the right weights.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 torchvision transformers==5.23.0 accelerate==1.15.0
cat > "$folder/resume.py" <<'PYTHON'
import sys
import tempfile

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Trainer, TrainingArguments, set_seed

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    **SIZE,
    "num_key_value_heads": 1,
    "vocab_size": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}


def model(seed):
    set_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=TEXT, vision_config=VISION))


def trainer(policy, folder):
    rows = [{"input_ids": list(range(8)), "labels": list(range(8))} for _ in range(4)]
    settings = {"max_steps": 2, "save_steps": 2, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True}
    return Trainer(policy, TrainingArguments(folder, disable_tqdm=True, **settings), train_dataset=rows)


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return sum(bool((left == right).all()) for left, right in pairs)


with tempfile.TemporaryDirectory() as folder:
    trained, start = model(seed=0), model(seed=1)
    trainer(trained, folder).train()
    checkpoint = f"{folder}/checkpoint-2"
    loaded = Qwen2_5_VLForConditionalGeneration.from_pretrained(checkpoint)
    resumed = model(seed=1)
    trainer(resumed, folder).train(resume_from_checkpoint=checkpoint)
    every = len(trained.state_dict())
    print(f"from_pretrained: {same(loaded, trained)} of {every} tensors as trained")
    print(f"resumed: {same(resumed, start)} of {every} tensors as before the checkpoint was read")
PYTHON
"$folder/venv/bin/python" "$folder/resume.py" 2>"$folder/log" | grep tensors > "$folder/seen" || { cat "$folder/log"; exit 1; }
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
from_pretrained: 57 of 57 tensors as trained
resumed: 56 of 57 tensors as before the checkpoint was read
SEEN

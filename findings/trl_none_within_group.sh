#!/bin/sh
# trl 1.16.0: a reward that is None for one completion of a group counts as 0 there, so that completion is punished.
#
# The documentation of GRPOTrainer lets reward functions return None where they do not apply, and says that these are
# ignored. That holds where a function is None for a whole prompt, or all functions are None for a completion. Where one
# of several is None within a group, as after a judge's time-out, the default aggregation sums what is left and compares
# it with the sums of the siblings, which have one reward more. The policy learns to avoid what the judge never saw.
#
# Seen: four completions of one prompt that two functions find equally good, 1 each. If the second function is None for
# the last of them, it gets advantage -1.5, and its siblings get +0.5.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 trl==1.16.0 rich
cat > "$folder/taught.py" <<'PYTHON'
import sys
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

WORDS = ["<pad>", "<end>", "asked", "a", "b", "c", "d", "e"]
tokens = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<end>")
SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def rule(prompts, **_):
    return [1.0] * len(prompts)


def judge(prompts, **_):
    return [1.0] * len(prompts)


def timed_out(prompts, **_):
    return [1.0] * (len(prompts) - 1) + [None]


def advantages(second, place):
    trainer = GRPOTrainer(
        Qwen2ForCausalLM(Qwen2Config(**SIZE, num_key_value_heads=1, vocab_size=len(WORDS))),
        reward_funcs=[rule, second],
        args=GRPOConfig(
            str(place),
            max_steps=1,
            num_generations=4,
            per_device_train_batch_size=4,
            max_completion_length=4,
            log_completions=True,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": "asked"}]),
        processing_class=tokenizer,
    )
    trainer.train()
    [file] = sorted((place / "completions").glob("*.parquet"))
    return [round(value, 1) + 0.0 for value in pq.read_table(file)["advantage"].to_pylist()]


for second in (judge, timed_out):
    print(f"advantages with {second.__name__}: {advantages(second, Path(sys.argv[1], second.__name__))}")
PYTHON
"$folder/venv/bin/python" "$folder/taught.py" "$folder/runs" >"$folder/out" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
grep -o "advantages with .*" "$folder/out" > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
advantages with judge: [0.0, 0.0, 0.0, 0.0]
advantages with timed_out: [0.5, 0.5, 0.5, -1.5]
SEEN

#!/bin/sh
# trl 1.16.0: under GDPO, GRPOTrainer logs no dead group where half of the groups are dead.
#
# `frac_reward_zero_std` is the share of prompts whose completions all earn the same, so that they teach nothing. With
# multi_objective_aggregation="normalize_then_sum" (GDPO) the spread it looks at is that of the whole batch, one number
# for all prompts. As long as two prompts of a batch differ, the share reads 0. Whoever filters data, or stops a run,
# by that curve sees a healthy batch.
#
# Seen: two prompts of four completions, one of which always earns 1: 0.5 under GRPO's own aggregation, 0 under GDPO's.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 trl==1.16.0
cat > "$folder/logged.py" <<'PYTHON'
import tempfile

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

WORDS = ["<pad>", "<end>", "live", "dead", "a", "b", "c", "d"]
tokens = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>"))
tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<end>")
SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def scored(prompts, **_):
    """Half of the completions of "live" earn 1, all of "dead" earn 1."""
    return [1.0 if prompt == "dead" else float(place % 2) for place, prompt in enumerate(prompts)]


def logged(aggregation):
    settings = {"max_steps": 1, "num_generations": 4, "per_device_train_batch_size": 8, "max_completion_length": 4}
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            Qwen2ForCausalLM(Qwen2Config(**SIZE, num_key_value_heads=1, vocab_size=len(WORDS))),
            reward_funcs=[scored],
            args=GRPOConfig(
                folder,
                **settings,
                multi_objective_aggregation=aggregation,
                logging_steps=1,
                report_to="none",
                use_cpu=True,
                bf16=False,
            ),
            train_dataset=Dataset.from_list([{"prompt": "live"}, {"prompt": "dead"}]),
            processing_class=tokenizer,
        )
        trainer.train()
        return trainer.state.log_history[0]["frac_reward_zero_std"]


for aggregation in ("sum_then_normalize", "normalize_then_sum"):
    print(f"{aggregation}: frac_reward_zero_std {float(logged(aggregation)):g}")
PYTHON
"$folder/venv/bin/python" "$folder/logged.py" >"$folder/out" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
grep "_std [0-9]" "$folder/out" | grep -o "[a-z_]*: frac.*" > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
sum_then_normalize: frac_reward_zero_std 0.5
normalize_then_sum: frac_reward_zero_std 0
SEEN

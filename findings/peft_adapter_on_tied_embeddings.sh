#!/bin/sh
# peft 0.21.2: merging an adapter of tied embeddings makes another model than the one that was trained.
#
# Where the input embeddings and the head share one matrix, an adapter on `embed_tokens` acts on the input side alone
# while it trains. `merge_and_unload` writes it into the shared matrix, so that it acts on the head as well. The merged
# model answers otherwise than the trained one. A warning speaks of complications of merging or converting; nothing is refused.
#
# Seen: the logits of the two differ by more than their own size.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 transformers==5.23.0 peft==0.21.2
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
base = LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=True, num_key_value_heads=2, **size))
model = get_peft_model(base, LoraConfig(r=4, target_modules=["embed_tokens"], task_type="CAUSAL_LM"))
ids = torch.arange(12).unsqueeze(0)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for _ in range(10):
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
with torch.no_grad():
    trained = model.eval()(input_ids=ids).logits
    merged = model.merge_and_unload().eval()(input_ids=ids).logits
gap, size = (trained - merged).abs().max().item(), trained.abs().max().item()
print(f"largest logit {size:.2f}, largest difference after the merge {gap:.2f}")
assert gap > size, "the behaviour has changed"
PYTHON

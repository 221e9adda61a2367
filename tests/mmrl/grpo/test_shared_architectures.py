"""Packed rows and shared caches over many architectures: the numbers of plain rows, or refused by architecture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from mmrl.grpo.shared_prefix.attention import carrier, installed, takes_packed_rows
from mmrl.grpo.shared_prefix.cache import shared_cache, shares

SMALL = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
WHOLE = ["llama", "qwen2", "qwen3", "gemma", "phi3", "olmo2", "granite", "glm4", "qwen3_moe", "ernie4_5", "nemotron"]
WINDOWS = ["mistral", "gemma3_text", "cohere2", "olmo3"]  # with a window of 8 tokens, shorter than the prompt
PROMPT = list(range(5, 25))
UNEQUAL, EQUAL = [list(range(30, 39)), list(range(40, 44)), [50]], [list(range(30, 36)), list(range(40, 46))]


def small(name: str, **options: Any) -> Any:
    """A random model of an architecture whose log-probs differ much from token to token."""
    config = AutoConfig.for_model(name, **SMALL, **options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.15)
    return model


def plain_logprobs(model: Any, completions: list[list[int]]) -> Tensor:
    scored = []
    for ids in completions:
        logprobs = model(input_ids=torch.tensor([PROMPT + ids])).logits[0].log_softmax(-1)
        scored.append(logprobs[len(PROMPT) - 1 : -1].gather(1, torch.tensor(ids)[:, None])[:, 0])
    return torch.cat(scored)


def packed_logprobs(model: Any, completions: list[list[int]]) -> Tensor:
    ids, first = PROMPT[:-1], len(PROMPT) - 1
    segments, positions, places = [0] * first, list(range(first)), []
    for number, completion in enumerate(completions, start=1):
        places += range(len(ids), len(ids) + len(completion))
        ids = [*ids, PROMPT[-1], *completion]
        segments += [number] * (len(completion) + 1)
        positions += range(first, first + len(completion) + 1)
    rows: list[Any] = [torch.tensor([row]) for row in (ids, positions)]
    carried = carrier(torch.tensor([segments]))
    output = model(input_ids=rows[0], position_ids=rows[1], attention_mask=carried, use_cache=False)
    targets = torch.tensor([token for completion in completions for token in completion])
    return output.logits[0].log_softmax(-1)[places].gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("name", [*WHOLE, *WINDOWS])
@pytest.mark.parametrize("completions", [UNEQUAL, EQUAL], ids=["unequal", "equal"])
def test_packed_rows_score_as_plain_ones(name: str, completions: list[list[int]]) -> None:
    model = small(name, **({"sliding_window": 8} if name in WINDOWS else {}))
    assert takes_packed_rows(model)
    plain = plain_logprobs(model, completions)
    installed(model.config)
    assert_close(packed_logprobs(model, completions), plain, atol=1e-5, rtol=1e-5)
    assert_close(plain_logprobs(model, completions), plain)  # rows of another kind are scored as before


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma", "phi3"])
def test_rollouts_of_a_shared_cache_are_those_of_copies(name: str) -> None:
    model, lengths, group = small(name), (20, 13), 3
    ids_PL = torch.tensor([[0] * (20 - length) + PROMPT[:length] for length in lengths])
    mask_PL = (ids_PL > 0).long()
    read: Any = DynamicCache(config=model.config)
    with torch.no_grad():
        positions = (mask_PL.cumsum(1) - 1).clamp(min=0)
        model(input_ids=ids_PL, attention_mask=mask_PL, position_ids=positions, past_key_values=read, use_cache=True)
    read.crop(-1)
    copied = copy.deepcopy(read)
    copied.batch_repeat_interleave(group)
    assert shares(read)

    def drawn(cache: Any) -> Any:
        torch.manual_seed(1)
        return model.generate(
            input_ids=ids_PL.repeat_interleave(group, 0),
            attention_mask=mask_PL.repeat_interleave(group, 0),
            past_key_values=cache, do_sample=True, max_new_tokens=9, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip

    plain = drawn(copied)
    installed(model.config)
    ours = drawn(shared_cache(read, mask_PL[:, :-1].bool()))
    assert torch.equal(ours.sequences, plain.sequences)
    assert_close(torch.stack(ours.scores), torch.stack(plain.scores), atol=1e-4, rtol=1e-4)
    assert read.layers[0].keys is ours.past_key_values.layers[0].prefix_keys  # and not a copy


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lfm2", {"layer_types": ["conv", "full_attention", "conv"]}),
        ("falcon_h1", {}),
        ("minimax", {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}),
    ],
)
def test_a_state_that_runs_from_token_to_token_is_known_by_its_architecture(name: str, options: dict[str, Any]) -> None:
    assert not takes_packed_rows(small(name, **options))


def test_a_cache_with_windows_is_not_shared() -> None:
    config = AutoConfig.for_model("mistral", **SMALL, sliding_window=8)
    assert not shares(DynamicCache(config=config))

"""Positions after a video are those with which Qwen2-VL and Qwen2.5-VL were pretrained, in every way of reading it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.grpo.shared_prefix.packing import packed
from mmrl.grpo.shared_prefix.prefix_cache import generated
from mmrl.model.encoding import Encoded, encode
from mmrl.model.inputs import media_inputs
from mmrl.model.positions import as_pretrained
from mmrl.model.tiny_twins import tiny_model
from tests.conftest import TEXTS
from tests.support.training import tiny_policy

TEXT, IMAGE, VIDEO = 0, 1, 2


def qwen2_vl() -> Any:
    as_pretrained()
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    text = {**sizes, "vocab_size": 16, "intermediate_size": 32, "rope_parameters": rope, "pad_token_id": 0}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2}
    return Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config=vision))


def qwen2_5_vl() -> Any:
    return tiny_model("qwen2_5_vl", TEXTS)[0].model


def positions(model: Any, types: list[int], **media: Any) -> list[list[int]]:
    """(time, height, width) of every token of one row, and the last column: what generation adds to a place."""
    types_1T = torch.tensor([types])
    position_31T, delta_11 = model.get_rope_index(torch.ones_like(types_1T), mm_token_type_ids=types_1T, **media)
    return [*position_31T[:, 0].T.tolist(), delta_11[0].tolist()]


@pytest.mark.parametrize(("model", "step"), [(qwen2_vl, 1), (qwen2_5_vl, 2)], ids=["qwen2_vl", "qwen2_5_vl"])
def test_text_goes_on_after_the_last_frame_of_a_video(model: Any, step: int) -> None:
    """Four time positions of a second each, 2 x 2 tokens: two tokens a second in Qwen2.5-VL, one a grid in Qwen2-VL."""
    types = [TEXT, TEXT, *[VIDEO] * 16, TEXT, TEXT]
    seconds = {"second_per_grid_ts": [1.0]} if step == 2 else {}
    *found, delta = positions(model(), types, video_grid_thw=torch.tensor([[4, 4, 4]]), **seconds)
    frames = [[2 + step * t, 2 + h, 2 + w] for t in range(4) for h in range(2) for w in range(2)]
    after = 2 + step * 3 + 1
    assert found == [[0] * 3, [1] * 3, *frames, [after] * 3, [after + 1] * 3]
    assert delta == [after + 2 - len(types)]


def test_every_later_picture_and_text_moves_with_it() -> None:
    types = [TEXT, *[VIDEO] * 6, TEXT, *[IMAGE] * 2, TEXT]
    grids = {"video_grid_thw": torch.tensor([[6, 2, 2]]), "image_grid_thw": torch.tensor([[1, 2, 4]])}
    *found, _ = positions(qwen2_5_vl(), types, second_per_grid_ts=[0.5], **grids)
    assert [time for time, _, _ in found] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 10]
    assert found[-3:] == [[8, 8, 8], [8, 8, 9], [10, 10, 10]]


def test_padding_on_the_left_changes_nothing() -> None:
    model, types = qwen2_5_vl(), torch.tensor([[TEXT, *[VIDEO] * 4, TEXT]])
    media = {"video_grid_thw": torch.tensor([[4, 2, 2]]), "second_per_grid_ts": [1.0]}
    alone, delta = model.get_rope_index(types, mm_token_type_ids=types, **media)
    wide = torch.nn.functional.pad(types, (3, 0))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]])
    beside, moved = model.get_rope_index(wide, mm_token_type_ids=wide, attention_mask=mask, **media)
    assert beside[..., 3:].equal(alone)
    assert moved.equal(delta)


def plain_logprobs(model: Any, row: Encoded, completion: Tensor) -> Tensor:
    """[C]: a plain forward of the prompt and the completion."""
    ids = torch.tensor([[*row.input_ids, *completion.tolist()]])
    logits = model(input_ids=ids, **media_inputs([row], ids, model, completion=len(completion))).logits[0]
    return logits[-len(completion) - 1 : -1].log_softmax(-1).gather(1, completion[:, None])[:, 0]


def test_rollouts_after_a_video_are_scored_where_they_were_drawn(
    mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    """The clip has more time positions than rows of tokens: generation, plain rows and packed rows see one another."""
    model, processor = tiny_policy(budget)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.15)  # positions must matter
        sample = mixed_samples[3]
        row = encode(processor, sample.prompt, sample.media, budget)
        assert row.tensors["video_grid_thw"].tolist() == [[4, 4, 4]]
        settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "output_logits": True}
        ids = torch.tensor([row.input_ids])
        drawn = model.generate(
            input_ids=ids, **media_inputs([row], ids, model), return_dict_in_generate=True, **settings
        )
        said = drawn.sequences[0, ids.shape[1] :]
        drawn_C = torch.stack(drawn.logits)[:, 0].log_softmax(-1).gather(1, said[:, None])[:, 0]
        plain_C = plain_logprobs(model, row, said)
        assert_close(plain_C, drawn_C, atol=1e-4, rtol=1e-4)

        both_BC = said.expand(2, -1)
        batch = packed(model, [row, row], both_BC, torch.ones_like(both_BC, dtype=torch.bool), pad=0)
        logprob_RTV = model(**batch.inputs, use_cache=False).logits.log_softmax(-1)[:, :-1]
        target_RT = batch.labels_RT[:, 1:].clamp(min=0)
        packed_BC = batch.unpacked(logprob_RTV.gather(2, target_RT[..., None])[..., 0])
        assert_close(packed_BC, plain_C.expand(2, -1), atol=1e-4, rtol=1e-4)

        def media(rows: Any, ids_BL: Tensor) -> dict[str, Tensor]:
            return media_inputs(rows, ids_BL, model)

        sizes: Any = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
        for shared in (True, False):
            again = generated(model, [row, row], media, pad=0, device="cpu", shared=shared, **sizes)
            assert again.equal(both_BC)

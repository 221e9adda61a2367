"""Rewards whose models see pictures or embed texts: tiny CLIP, Gemma 3 and BERT, saved and loaded by the reward."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Gemma3Config,
    Gemma3ForSequenceClassification,
    Gemma3ImageProcessor,
    Gemma3Processor,
    PreTrainedTokenizerFast,
)

import rewards
from data_engine.schema import user_prompt
from mmrl.core.config import InputError
from mmrl.model.tiny_twins import tiny_model, trained_tokenizer
from rewards import Media, RewardSpec, Rollout
from rewards.gradients import gradient_of
from rewards.heads.embedding_similarity import embedding_similarity, goal_baseline
from rewards.heads.embeddings_torch import text_embeddings
from rewards.heads.endogenous import endogenous
from rewards.heads.relevance import clause_similarity, distinct_trigrams, length_incentive, r3, relevance
from rewards.heads.reward_model import reward_model
from tests.conftest import TEXTS

GOAL, BASELINE, STATE = np.array([1, 0, 0]), np.array([0.6, 0.8, 0]), np.array([[0.8, 0.36, 0.48]])
GEMMA = (
    "<|endoftext|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
GEMMA_TEMPLATE = """{%- for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' }}
{%- for part in message['content'] %}{{ '<start_of_image>' if part['type'] == 'image' else part['text'] }}{%- endfor %}
{{- '<end_of_turn>\n' }}{%- endfor %}"""


def tokenizer_of(special: tuple[str, ...] = ("<|endoftext|>", "<|end|>")) -> Any:
    made = trained_tokenizer(TEXTS, special, vocab=480, eos=special[1])
    made.padding_side = "right"
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    place = tmp_path_factory.mktemp("pictures")
    made = np.random.default_rng(0).integers(0, 255, (3, 40, 56, 3), dtype=np.uint8)
    for number, pixels in enumerate(made):
        Image.fromarray(pixels).save(place / f"{number}.png")
    return [str(place / f"{number}.png") for number in range(3)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    tokenizer = tokenizer_of()
    end = tokenizer.eos_token_id
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", end)])
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 24, "eos_token_id": end}
    vision = {**sizes, "image_size": 28, "patch_size": 14}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    place = tmp_path_factory.mktemp("clip")
    model.save_pretrained(place)
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(place)
    return str(place)


@pytest.mark.parametrize(("alpha", "wanted"), [(0, 0.8), (0.25, 0.85047), (0.5, 0.88652), (1, 0.91536)])
def test_goal_baseline_vectors(alpha: float, wanted: float) -> None:
    assert goal_baseline(STATE, GOAL, BASELINE, alpha)[0] == pytest.approx(wanted, abs=1e-5)
    assert goal_baseline(BASELINE[None], GOAL, BASELINE, alpha)[0] == pytest.approx(0.6)


def test_a_large_alpha_is_easily_fooled() -> None:
    scores = [goal_baseline(np.array([[0, 0, 1]]), GOAL, BASELINE, alpha)[0] for alpha in (0, 0.5, 1)]
    assert scores == pytest.approx([0, 0.675, 0.9])


def test_the_mean_of_goals_is_not_made_a_unit_vector_again() -> None:
    mean = np.array([0.5, 0.5, 0])
    assert goal_baseline(mean[None] / np.linalg.norm(mean), mean, BASELINE, 0)[0] == pytest.approx(0.9571068)


def test_a_goal_that_is_the_baseline_falls_back_to_the_cosine() -> None:
    assert goal_baseline(STATE, GOAL, GOAL, 0.9)[0] == pytest.approx(0.8)


def direct(clip: str, picture: str, text: str) -> tuple[np.ndarray, np.ndarray]:
    processor: Any = CLIPProcessor.from_pretrained(clip)
    model: Any = CLIPModel.from_pretrained(clip).eval()
    inputs = processor(text=[text], images=[Image.open(picture)], return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    return output.image_embeds.numpy(), output.text_embeds.numpy()


def test_without_a_goal_the_completion_is_compared_with_the_picture(clip: str, pictures: list[str]) -> None:
    rollouts = [Rollout(text, media=[Media(path=path)]) for text in ("the 7 is here", "yes") for path in pictures]
    verdicts = rewards.get("embedding_similarity", model=clip)(rollouts)
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        image, text = direct(clip, rollout.media[0].path or "", rollout.completion)
        assert verdict.score == pytest.approx(max(float(image[0] @ text[0]), 0), abs=1e-5)


def test_a_goal_scores_the_last_picture_whatever_the_completion(clip: str, pictures: list[str]) -> None:
    media = [Media(path=pictures[0]), Media(path=pictures[1])]
    reward = rewards.get("embedding_similarity", model=clip, goal=["the 7"], baseline=["digits"], alpha=0.5)
    rollouts = [Rollout("", media=media), Rollout("yes", media=media[1:]), Rollout("", media=media[:1], made=media[1:])]
    verdicts = reward(rollouts)
    image, goal = direct(clip, pictures[1], "the 7")
    wanted = goal_baseline(image, goal[0], direct(clip, pictures[1], "digits")[1][0], 0.5)[0]
    assert [verdict.score for verdict in verdicts] == pytest.approx([max(wanted, 0)] * 3, abs=1e-5)


def test_missing_pictures_have_no_verdict_and_silence_scores_nothing(clip: str, pictures: list[str]) -> None:
    media = [[], [Media(path=None)], [Media(path="gone.png")], [Media(path=pictures[0])]]
    verdicts = embedding_similarity([Rollout("the 7", media=media_item) for media_item in media], model=clip)
    assert [verdict.kind for verdict in verdicts] == ["abstained"] * 3 + ["scored"]
    assert "gone.png" in verdicts[2].why
    assert embedding_similarity([Rollout("", media=media[3])], model=clip)[0].kind == "unparsed"


def test_a_long_completion_is_cut_at_the_context_of_the_model(clip: str, pictures: list[str]) -> None:
    assert (
        embedding_similarity([Rollout("digit 7 " * 99, media=[Media(path=pictures[0])])], model=clip)[0].score
        is not None
    )


def test_similarity_on_pixels_is_that_of_the_picture_and_has_a_gradient(clip: str, pictures: list[str]) -> None:
    options: dict[str, Any] = {"model": clip, "goal": "the 7", "baseline": "a picture", "alpha": 0.5}
    pixels = torch.from_numpy(np.array(Image.open(pictures[0]))).permute(2, 0, 1)[None] / 255
    score = gradient_of({"near": RewardSpec(fn="embedding_similarity", args=options)})
    scores = score(pixels.requires_grad_(True), Rollout(""))
    [known] = embedding_similarity([Rollout("", made=[Media(path=pictures[0])])], **options)
    assert scores.tolist() == pytest.approx([known.score], abs=1e-3)
    [slope] = torch.autograd.grad(scores.sum(), pixels)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [({"alpha": 0.5}, "alpha 0.5 needs a baseline"), ({"goal": ["a", "b"], "baseline": "c"}, "2 goals, 1 baselines")],
)
def test_goals_and_baselines_must_match(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        embedding_similarity([], model="any", **options)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    tokenizer, place = tokenizer_of(), tmp_path_factory.mktemp("encoder")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def test_r3_vectors() -> None:
    completion = "a b c a b c d e f g"
    assert (distinct_trigrams(completion), length_incentive(completion)) == (0.875, 0.1)
    assert distinct_trigrams("two words") == 0
    assert r3(0.8, 0.875, 0.1) == pytest.approx(0.07)
    assert r3(0.62, 0.95, 1.2) == pytest.approx(0.7068)
    assert r3(0.7, 0.95) == pytest.approx(0.665)


def test_relevance_is_the_cosine_of_mean_pooled_states(encoder: str) -> None:
    model, tokenizer = BertModel.from_pretrained(encoder).eval(), tokenizer_of()
    completion, gold = "the 7 is here I see", "Which digit comes first?"
    with torch.no_grad():
        a, b = (
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1)[0] for text in (completion, gold)
        )
    cosine = torch.cosine_similarity(a, b, dim=0).item()
    closed, opened = relevance(
        [Rollout(completion, answer=gold, task="text"), Rollout(completion, prompt=gold, task="open")], model=encoder
    )
    assert closed.score == pytest.approx(cosine, abs=1e-5)
    assert opened.score == pytest.approx(cosine * 0.06 / 3, abs=1e-5)


def test_relevance_is_not_won_by_silence_repetition_or_the_lack_of_a_gold(encoder: str) -> None:
    gold = "yes no A B"
    completions = ["yes no A B", "yes no A B yes no A B yes no A B", "yes no", ""]
    right, repeated, short, silent = relevance(
        [Rollout(completion, answer=gold, task="text") for completion in completions], model=encoder
    )
    assert right.score == pytest.approx(1.0, abs=1e-5)
    assert (repeated.score or 0) <= 0.4 + 1e-6
    assert (short.score, silent.score, silent.kind) == (0.0, 0.0, "unparsed")
    assert relevance([Rollout("yes", task="text")], model=encoder)[0].kind == "abstained"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    tokenizer = tokenizer_of(GEMMA)
    named = dict(zip(("boi_token", "eoi_token", "image_token"), GEMMA[3:], strict=True))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token=GEMMA[2], pad_token=GEMMA[0], extra_special_tokens=named,
    )  # fmt: skip
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in zip(("boi", "eoi", "image"), GEMMA[3:], strict=True)
    }
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **sizes,
        "vocab_size": len(tokenizer),
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
    }
    text |= {"pad_token_id": tokenizer.pad_token_id}
    more: dict[str, Any] = {"num_labels": 1, "image_token_id": ids["image"], "pad_token_id": tokenizer.pad_token_id}
    config = Gemma3Config(
        text_config=text, vision_config={**sizes, "image_size": 56, "patch_size": 14}, mm_tokens_per_image=4,
        boi_token_index=ids["boi"], eoi_token_index=ids["eoi"], image_token_index=ids["image"], **more,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("gemma")
    model = Gemma3ForSequenceClassification(config)
    for name, weight in model.named_parameters():
        if weight.dim() > 1 and "norm" not in name:  # as made, the projector is 0 and the head sees no picture
            torch.nn.init.normal_(weight, std=0.15)
    model.save_pretrained(place)
    seen = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    Gemma3Processor(seen, tokenizer, chat_template=GEMMA_TEMPLATE, image_seq_length=4).save_pretrained(place)
    return str(place)


def test_a_vision_language_head_sees_the_picture(gemma: str, pictures: list[str]) -> None:
    prompt = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which digit?"}]}]
    rollouts = [Rollout("the 7", prompt=prompt, media=[Media(path=path)]) for path in pictures[:2]]
    rollouts += [Rollout("I see two", prompt="Which digit?")]
    together = [verdict.score for verdict in reward_model(rollouts, model=gemma)]
    assert together[0] != pytest.approx(together[1], abs=1e-6)
    alone = [reward_model([rollout], model=gemma, batch=1)[0].score for rollout in rollouts]
    assert together == pytest.approx(alone, abs=1e-5)
    processor: Any = Gemma3Processor.from_pretrained(gemma)
    text = (
        "<start_of_turn>user\n<start_of_image>Which digit?<end_of_turn>\n<start_of_turn>assistant\nthe 7<end_of_turn>\n"
    )
    inputs = processor(text=[text], images=[[Image.open(pictures[0])]], return_tensors="pt")
    with torch.no_grad():
        raw = Gemma3ForSequenceClassification.from_pretrained(gemma).eval()(**inputs).logits.item()
    assert together[0] == pytest.approx(1 / (1 + math.exp(-raw)), abs=1e-5)
    gone = reward_model([Rollout("a", prompt=prompt, media=[Media(path="gone.png")])], model=gemma)[0]
    assert gone.kind == "abstained"
    assert "gone.png" in gone.why


def test_a_language_model_is_shown_the_picture(pictures: list[str], tmp_path: Path) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    prompt = user_prompt("What is this?", ["image"])
    rollouts = [Rollout("Two cats", prompt=prompt, media=[Media(path=path)]) for path in pictures[:2]]
    rollouts.append(Rollout("I see a dog.", prompt="What is this?"))
    together = [verdict.score for verdict in endogenous(rollouts, model=str(tmp_path))]
    assert together == pytest.approx([endogenous([one], model=str(tmp_path))[0].score for one in rollouts], rel=1e-4)
    assert together[0] != pytest.approx(together[1], rel=1e-6)
    content = [{"type": "image", "image": Image.open(pictures[0])}, {"type": "text", "text": "What is this?"}]
    answer = [{"type": "text", "text": "Two cats"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    inputs: Any = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    said = processor.tokenizer("Two cats")["input_ids"]
    ids = inputs["input_ids"][0].tolist()
    begin = next(place for place in range(len(ids)) if ids[place : place + len(said)] == said)
    labels = torch.tensor([[-100] * begin + said + [-100] * (len(ids) - begin - len(said))])
    assert together[0] == pytest.approx(math.exp(-model(**inputs, labels=labels).loss.item()), rel=1e-4)
    blind = endogenous(rollouts[:2], model=str(tmp_path), blind=True)
    assert {verdict.kind for verdict in blind} == {"scored"}
    gone = endogenous([replace(rollouts[0], media=[Media(path=str(tmp_path / "gone.png"))])], model=str(tmp_path))
    assert gone[0].kind == "abstained"


def test_registering_these_loads_no_torch() -> None:
    names = ("reward_model", "multi_response", "endogenous", "embedding_similarity", "relevance")
    code = f"import sys, rewards.registry as s; [s.options_of(s.function_of(n)) for n in {names}]"
    code += "; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_a_clause_is_compared_with_the_nearest_clause_of_the_gold(encoder: str) -> None:
    """Their order does not matter, and a clause that says something else costs."""
    said = ["yes, the 7 is here. I see two digits", "I see two digits\nyes,", "yes, no A B C D", " "]
    rollouts = [*(Rollout(text, {"text": said[:1]}, "text") for text in said), Rollout("yes")]
    same, turned, more, silent, none = clause_similarity(rollouts, model=encoder)
    assert (same.score, turned.score) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))
    texts = ["no A B C D", "yes,", "the 7 is here.", "I see two digits"]
    other, *gold = text_embeddings(texts, model=encoder, device="cpu", dtype="float32", batch=1)
    assert more.score == pytest.approx((1 + max(float(other @ one) for one in gold)) / 2, abs=1e-5)
    assert (silent.kind, silent.score, none.kind) == ("unparsed", 0.0, "abstained")

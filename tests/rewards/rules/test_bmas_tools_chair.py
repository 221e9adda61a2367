"""BMAS from a real table on disk, tool calls by ToolRL's numbers, and CHAIR by rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from mmrl.core.config import InputError
from rewards import Rollout, Verdict, get
from rewards.parse.coco_objects import SYNONYMS, objects_named, plural
from rewards.rules.bmas import embeddings_of, floor_of, similarity
from rewards.rules.tool_call import share

WORDS = {"[UNK]": 0, "a": 1, "b": 2, "c": 3, "d": 4}
ROWS = np.array([[0, 0], [1, 0], [0, 1], [0.6, 0.8], [-1, 0]], dtype=np.float32)


@pytest.fixture(params=["F32", "F16", "BF16"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tokenizer: Any = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    data = {
        "F32": ROWS.tobytes(),
        "F16": ROWS.astype(np.float16).tobytes(),
        "BF16": (ROWS.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
    }[request.param]
    header = {
        "model.norm.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "model.embed_tokens.weight": {"dtype": request.param, "shape": [5, 2], "data_offsets": [8, 8 + len(data)]},
    }
    packed = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(packed).to_bytes(8, "little") + packed + bytes(8) + data)
    return tmp_path


def bmas(table: Path, completion: str, golds: Any, **options: Any) -> Verdict:
    return get("bmas", table=str(table), **options)([Rollout(completion, {"references": golds})])[0]


def test_bmas_by_the_numbers_of_the_notes(table: Path) -> None:
    near = pytest.approx
    assert bmas(table, "a b c", ["a c"]).score == near(0.9666667, abs=5e-3)
    assert bmas(table, "a", ["a c"]).score == near(0.9, abs=5e-3)
    assert bmas(table, "a c", ["a c"]).score == near(1)
    assert bmas(table, "a", ["d"]).score == 0
    assert bmas(table, "a", ["d", "a"]).score == near(1)
    assert bmas(table, "c", ["a"], floor=0.5).score == near(0.2, abs=5e-3)
    assert bmas(table, "", ["a"]).kind == "unparsed"
    assert bmas(table, "a", []).kind == "abstained"


def test_centring_takes_the_mean_of_the_table_off(table: Path) -> None:
    mean = ROWS.mean(axis=0)
    expected = similarity(ROWS[[3]] - mean, ROWS[[1]] - mean)
    assert bmas(table, "c", ["a"], center=True).score == pytest.approx(max(expected, 0), abs=5e-3)
    assert floor_of(str(table), ["a", "c"]) == pytest.approx(0.6, abs=5e-3)


def test_the_table_is_mapped_and_not_read(table: Path) -> None:
    assert isinstance(embeddings_of(str(table)).table_VD, np.memmap)
    assert embeddings_of(str(table / "model.safetensors")).table_VD.shape == (5, 2)


def test_a_table_that_is_none_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        embeddings_of(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="no safetensors file with a tensor"):
        embeddings_of(str(tmp_path))
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match="is not a safetensors file"):
        embeddings_of(str(tmp_path / "x.safetensors"))
    with pytest.raises(InputError, match="is not a safetensors file"):  # at the door, not rollout by rollout
        get("bmas", table=str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("name", ["reward_model", "endogenous", "multi_response", "embedding_similarity", "relevance"])
def test_a_model_at_a_path_that_is_none_is_an_error_at_the_door(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*nowhere"):
        get(name, model=str(tmp_path / "nowhere"))
    assert get(name, model="org/model")


def test_long_texts_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(70, 8))
    whole = similarity(rows[:50], rows[40:])
    monkeypatch.setattr("rewards.rules.bmas.AT_ONCE", 90)
    assert similarity(rows[:50], rows[40:]) == pytest.approx(whole)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_bmas_is_symmetric_and_knows_no_order(m: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(m, 4)), generator.normal(size=(n, 4))
    assert similarity(a, b) == pytest.approx(similarity(b, a))
    assert similarity(a[::-1], b) == pytest.approx(similarity(a, b))
    assert similarity(a, a) == pytest.approx(1)


SEARCH = ("search", {"q": "cat", "k": 5})


@pytest.mark.parametrize(
    ("wanted", "made", "variant", "correctness"),
    [
        ([SEARCH], [("search", {"q": "cat", "k": 6})], "full", 1.5),
        ([SEARCH], [("search", {"q": "cat"})], "full", 0.75),
        ([SEARCH], [("search", {"q": "cat", "k": 5, "page": 1})], "full", 2.5),
        ([SEARCH], [("search", {"q": "cat", "k": 5, "page": 1})], "refined", 1.5),
        ([SEARCH], [("find", {"q": "cat", "k": 5})], "full", -3),
        ([SEARCH], [SEARCH, ("stop", {})], "full", 2.25),
        ([SEARCH], [], "full", -3),
        ([SEARCH], [("search", {"q": "cat", "k": 6})], "intermediate", 0),
        ([("a", {"x": 1}), ("b", {})], [("b", {}), ("a", {"x": 1})], "full", 3),
        ([("a", {"x": 1}), ("b", {})], [("a", {"x": 2}), ("b", {})], "full", 1.5),
    ],
)
def test_toolrls_correctness(wanted: Any, made: Any, variant: Any, correctness: float) -> None:
    assert 6 * share(wanted, made, variant) - 3 == pytest.approx(correctness)
    lines = "\n".join(json.dumps({"name": name, "parameters": parameters}) for name, parameters in made)
    gold = [{"name": name, "parameters": parameters} for name, parameters in wanted]
    completion = Rollout(f"<think>hm</think>\n<tool_call>\n{lines}\n</tool_call>", {"tools": gold})
    verdict = get("tool_call", variant=variant)([completion])[0]
    assert verdict.score == pytest.approx((correctness + 3) / 6)


@pytest.mark.parametrize(
    ("gold", "said", "score"),
    [
        ({"text": "7"}, "<think>a</think>\n<response>7</response>", 1),
        ({"tools": [{}]}, "<think>a</think>\n<tool_call>\n{}\n</tool_call>", 1),
        ({"tools": [{}]}, "<think>a</think>\n<response>7</response>", 0),
        ({"tools": [{}], "text": "7"}, "<think>a</think>\n<tool_call>\n{}\n</tool_call>\n<response>7</response>", 1),
        ({"tools": [{}], "text": "7"}, "<think>a</think>\n<response>7</response>\n<tool_call>\n{}\n</tool_call>", 0),
        ({"tools": []}, "<think>a</think>", 1),
        ({"tools": [], "text": "7"}, "<think>a</think>\n<response>7</response>", 1),
        ({"tools": []}, "<think>a</think> so", 0),
        ({"tools": []}, "<think>a<think>b</think>", 0),
        ({"text": "7"}, "<think>a</think><tool_call>{}</tool_call>\n<think>b</think><response>7</response>", 1),
        ({"text": "7"}, "<think>a</think><tool_call>{}</tool_call>", 0),
    ],
)
def test_the_form_of_calls_follows_the_gold(gold: dict[str, Any], said: str, score: int) -> None:
    """ToolRL's four shapes (2504.13958), and turns where the gold says nothing of tools."""
    assert get("tool_format", answer="response")([Rollout(said, gold)])[0].score == score


def test_a_call_as_templates_write_it_is_the_same_call() -> None:
    said = '<tool_call>\n{"name": "crop", "arguments": {"box": [1, 2]}}\n</tool_call>'
    gold = {"tools": [{"name": "crop", "parameters": {"box": [1, 2]}}]}
    assert get("tool_call")([Rollout(said, gold)])[0].score == 1


def test_tool_calls_that_cannot_be_read_or_are_not_wanted() -> None:
    def verdict(completion: str, tools: Any, **options: Any) -> Verdict:
        return get("tool_call", **options)([Rollout(completion, {"tools": tools})])[0]

    calls = [{"name": "f", "parameters": {}}]
    call = '<tool_call>{"name": "f", "parameters": {}}</tool_call>'
    assert verdict(call, calls).score == 1
    assert verdict(call + "<tool_call>{</tool_call>", calls).kind == "unparsed"
    assert verdict('<tool_call>{"name": "f"}</tool_call>', calls).kind == "unparsed"
    assert verdict("<think>" + call + "</think>", calls).kind == "unparsed"
    assert verdict(call + call, calls, variant="coarse").score == 0
    assert (verdict("Hello", []).score, verdict(call, []).score, verdict("", []).kind) == (1, 0, "unparsed")
    assert verdict(call, [{"name": "f"}]).kind == "abstained"


@pytest.mark.parametrize(
    ("completion", "named"),
    [
        ("Two women with hot dogs and a dog", ["person", "hot dog", "dog"]),
        ("a baby elephant behind a passenger train", ["elephant", "train"]),
        ("a baby on a toilet seat", ["person", "toilet"]),
        ("traffic lights over two buses", ["traffic light", "bus"]),
        ("a teddy bear, not a bear", ["teddy bear", "bear"]),
        ("an orange, an orange car and oranges", ["orange", "car", "orange"]),
        ("a red sky over hills", []),
    ],
)
def test_mentions_are_mapped_to_coco_names(completion: str, named: list[str]) -> None:
    assert objects_named(completion) == named


def test_every_coco_name_is_known_in_singular_and_plural() -> None:
    assert len(SYNONYMS) == 80
    for name in SYNONYMS:
        *before, last = name.split()
        assert objects_named(name) == [name]
        assert objects_named(" ".join([*before, plural(last)])) == [name]
    everything = [phrase for name, phrases in SYNONYMS.items() for phrase in (name, *phrases)]
    assert len(everything) == len(set(everything))


def test_chair_of_three_captions() -> None:
    captions = [("dog frisbee person", ["dog", "frisbee"]), ("dog car", ["dog", "car"]), ("cat", ["cat"])]
    rollouts = [Rollout(completion, {"objects": truth}) for completion, truth in captions]
    by_mention = [verdict.score for verdict in get("object_hallucination", mode="chair_i")(rollouts)]
    by_caption = [verdict.score for verdict in get("object_hallucination", mode="chair_s")(rollouts)]
    assert by_mention == pytest.approx([2 / 3, 1, 1])
    assert by_caption == [0, 1, 1]
    named = [3, 2, 1]
    pooled = sum((1 - (score or 0)) * count for score, count in zip(by_mention, named, strict=True)) / sum(named)
    assert pooled == pytest.approx(1 / 6)


def test_gold_objects_come_from_labels_and_reference_captions() -> None:
    reward = get("object_hallucination", mode="chair_i")
    both = {"objects": ["dog"], "references": ["A man throws a frisbee."]}
    assert reward([Rollout("a woman, a puppy", both)])[0].score == 1
    assert reward([Rollout("a fine view", both)])[0].kind == "unparsed"
    assert reward([Rollout("a fine view", {"objects": []})])[0].score == 1
    assert reward([Rollout("a dog", {"choice": "B"})])[0].kind == "abstained"


def test_labels_name_the_objects_where_objects_are_null() -> None:
    (verdict,) = get("object_hallucination")([Rollout("a dog", {"objects": None, "labels": ["dog"]})])
    assert verdict.score == 1


def test_naming_one_safe_object_does_not_pay_in_f1() -> None:
    truth = {"objects": ["dog", "frisbee", "person", "car"]}
    shy, full = get("object_hallucination")([Rollout("a dog", truth), Rollout("a dog, a frisbee, a man, a cat", truth)])
    assert (shy.score or 0) < (full.score or 0)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=200) | st.text('<tool_call>/{}"name:parameters,', max_size=200))
def test_no_text_is_an_error(text: str) -> None:
    tools = [{"name": "f", "parameters": {"a": 1}}]
    rollout = Rollout(text, {"tools": tools, "objects": ["dog"]})
    for name in ("tool_call", "object_hallucination", "repetition", "length_window", "overlong"):
        assert get(name)([rollout])[0].kind in ("scored", "unparsed")

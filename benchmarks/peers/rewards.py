"""Rewards as users of TRL write them: columns in, a float a row out. `benchmarks.rewards` compares with them."""

from __future__ import annotations

import functools
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PerRow = Callable[[list[str], list[Any]], list[float]]


def row_by_row(function: Callable[[str, Any], float]) -> PerRow:
    """The loop around every such reward, with its customary try."""

    @functools.wraps(function)
    def reward(completions: list[str], answers: list[Any]) -> list[float]:
        scores = []
        for content, answer in zip(completions, answers, strict=True):
            try:
                scores.append(function(content, answer))
            except (ValueError, KeyError, IndexError, TypeError):
                scores.append(0.0)
        return scores

    return reward


def answer_of(content: str) -> str:
    """The text of the last answer tags."""
    matches = re.findall(r"<answer>(.*?)</answer>", content, re.DOTALL)
    return matches[-1].strip() if matches else content.strip()


def bmas(directory: str) -> PerRow:
    """BMAS with numpy, one row at a time, from a table that is loaded once."""

    @functools.cache
    def loaded() -> tuple[Any, Any]:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        tensors = load_file(str(Path(directory) / "model.safetensors"))
        return tensors["model.embed_tokens.weight"], Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))

    @row_by_row
    def reward(content: str, answer: Any) -> float:
        weights, tokenizer = loaded()
        sides = []
        for text in (answer_of(content), answer["references"][0]):
            rows = weights[tokenizer.encode(text, add_special_tokens=False).ids]
            sides.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        similar = sides[0] @ sides[1].T
        return max(0.0, float(similar.max(axis=1).mean() + similar.max(axis=0).mean()) / 2)

    return reward


def write_table(directory: Path, words: Sequence[str]) -> None:
    """A table of 512 dimensions, as wide as those of small language models, and a tokenizer of words for it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {word: i for i, word in enumerate(["?", *dict.fromkeys(words)])}
    tokenizer: Any = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    weights = np.random.default_rng(0).normal(size=(len(vocabulary), 512)).astype("<f4")
    header = json.dumps(
        {"model.embed_tokens.weight": {"dtype": "F32", "shape": weights.shape, "data_offsets": [0, weights.nbytes]}}
    ).encode()
    head = struct.pack("<Q", len(header)) + header
    (directory / "model.safetensors").write_bytes(head + weights.tobytes())


@row_by_row
def choice(content: str, answer: Any) -> float:
    match = re.search(r"\b([A-Z])\b", answer_of(content))
    return 1.0 if match and match.group(1) == answer["choice"] else 0.0


@row_by_row
def yesno(content: str, answer: Any) -> float:
    match = re.search(r"\b(yes|no)\b", answer_of(content).lower())
    return 1.0 if match and (match.group(1) == "yes") == answer["yesno"] else 0.0


@row_by_row
def number(content: str, answer: Any) -> float:
    numbers = re.findall(r"-?\d+(?:\.\d+)?", answer_of(content))
    return 1.0 if numbers and abs(float(numbers[-1]) - answer["number"]) < 1e-9 else 0.0


@row_by_row
def expression(content: str, answer: Any) -> float:
    from math_verify import parse, verify

    return float(verify(parse(f"${answer['math']}$"), parse(answer_of(content))))


@row_by_row
def text(content: str, answer: Any) -> float:
    text = answer_of(content).lower().strip().rstrip(".")
    return 1.0 if text in [gold.lower().strip().rstrip(".") for gold in answer["text"]] else 0.0


@row_by_row
def relaxed(content: str, answer: Any) -> float:
    text, gold = answer_of(content), answer["text"][0]
    try:
        value, target = float(text.rstrip("%")), float(gold.rstrip("%"))
    except ValueError:
        return float(text.lower() == gold.lower())
    return float(abs(value - target) / abs(target) <= 0.05) if target else float(text == gold)


def levenshtein(a: str, b: str) -> int:
    previous = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        current = [i]
        for j, right in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


@row_by_row
def anls(content: str, answer: Any) -> float:
    text, best = " ".join(answer_of(content).lower().split()), 0.0
    for reference in answer["text"]:
        gold = " ".join(reference.lower().split())
        distance = levenshtein(text, gold) / max(len(text), len(gold))
        best = max(best, 1 - distance if distance < 0.5 else 0.0)
    return best


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


@row_by_row
def bleu(content: str, answer: Any) -> float:
    text, gold = answer_of(content).split(), answer["references"][0].split()
    logs = 0.0
    for n in range(1, 5):
        overlap = sum((ngrams(text, n) & ngrams(gold, n)).values())
        logs += math.log((overlap + 1) / (max(len(text) - n + 1, 0) + 1)) / 4
    return min(1.0, math.exp(1 - len(gold) / len(text))) * math.exp(logs)


@row_by_row
def chrf(content: str, answer: Any) -> float:
    from sacrebleu import sentence_chrf

    return sentence_chrf(answer_of(content), answer["references"]).score / 100


def common(a: Sequence[Any], b: Sequence[Any]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@row_by_row
def rouge_l(content: str, answer: Any) -> float:
    text, gold = answer_of(content).lower().split(), answer["references"][0].lower().split()
    return 2 * common(text, gold) / (len(text) + len(gold))


@row_by_row
def chain(content: str, answer: Any) -> float:
    text, scores = answer_of(content).lower(), []
    for keywords in answer["chain"].values():
        longest_first = "|".join(re.escape(keyword) for keyword in sorted(keywords, key=len, reverse=True))
        matches = re.findall(rf"\b(?:{longest_first})\b", text)
        scores.append(common(keywords, matches) / max(len(keywords), len(matches)))
    return sum(scores) / len(scores)


@row_by_row
def tool_call(content: str, answer: Any) -> float:
    block = content.split("<tool_call>")[1].split("</tool_call>")[0]
    made, wanted = [json.loads(row) for row in block.strip().split("\n")], answer["tools"]
    if made == wanted:
        return 1.0
    points, most = jaccard([call["name"] for call in wanted], [call["name"] for call in made]), 1.0
    used = []
    for gold in wanted:
        most += 1 + len(gold["parameters"])
        best, index = 0.0, None
        for i, call in enumerate(made):
            if i in used or call["name"] != gold["name"]:
                continue
            value = jaccard(list(gold["parameters"]), list(call["parameters"]))
            value += sum(1 for key, right in gold["parameters"].items() if call["parameters"].get(key) == right)
            if value > best:
                best, index = value, i
        points += best
        used += [index] if index is not None else []
    return points / most


def jaccard(a: list[str], b: list[str]) -> float:
    if a == b:
        return 1.0
    overlap = sum((Counter(a) & Counter(b)).values())
    return overlap / (len(a) + len(b) - overlap)


NAMES = {name: re.compile(rf"\b{word}\b") for name, word in (
    ("person", "(?:person|people|man|men|woman|women|child|children)"),
    ("dog", "dogs?"), ("cat", "cats?"), ("bus", "bus(?:es)?"), ("car", "cars?"), ("bird", "birds?"),
    ("horse", "horses?"), ("boat", "boats?"), ("train", "trains?"), ("bench", "bench(?:es)?"),
)}  # fmt: skip


@row_by_row
def chair(content: str, answer: Any) -> float:
    text = answer_of(content).lower()
    mentions = [name for name, pattern in NAMES.items() for _ in pattern.findall(text)]
    return sum(mention in answer["objects"] for mention in mentions) / len(mentions) if mentions else 0.0


@row_by_row
def think_format(content: str, _: Any) -> float:
    return 1.0 if re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", content, re.DOTALL) else 0.0


@row_by_row
def tag_format(content: str, _: Any) -> float:
    count = 0.0
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        count += 0.25 if content.count(tag) == 1 else 0.0
    return count


@row_by_row
def repetition(content: str, _: Any) -> float:
    grams = ngrams(re.findall(r"\w+", content.lower()), 6)
    return len(grams) / sum(grams.values()) - 1


@row_by_row
def length_window(content: str, _: Any) -> float:
    return 1.0 if 1 <= len(content.split()) <= 200 else 0.0


@row_by_row
def overlong(content: str, _: Any) -> float:
    over = len(content.split()) - 60
    return 0.0 if over <= 0 else -1.0 if over > 60 else -over / 60

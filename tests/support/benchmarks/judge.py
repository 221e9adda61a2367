"""A judge of benchmarks that goes by plain rules, behind a real server; it judges the tests' oracles."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from eval.benchmarks.scoring import PROMPTS
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.judge_client.templates import FOLDER, template
from rewards.parse.extract import answer_text, yes_no
from tests.support.judge_server import Server, pictures, serving, user_text, verdict

DATA = re.compile(r"<data (\w+)>\n(.*?)\n</data \1>", re.DOTALL)


@contextmanager
def judging(script: Any = None) -> Iterator[tuple[JudgeSpec, Server]]:
    """The settings of a judge that answers by `script`, by default `fair`."""
    with serving(script or fair) as server:
        settings = {"base_url": server.url, "model": "scripted", "backoff": 0.01, "retries": 0, "deadline": 5.0}
        yield JudgeSpec.model_validate(settings), server


@functools.cache
def names() -> dict[str, str]:
    """The names of the prompts by their system messages."""
    files = [*PROMPTS.glob("*.txt"), *FOLDER.glob("caption_*.txt")]
    return {template(str(file)).system: Path(file).stem for file in files}


def prompt_of(body: dict[str, Any]) -> str:
    """Which prompt a request is of."""
    return names()[body["messages"][0]["content"]]


def data_of(body: dict[str, Any]) -> list[str]:
    """The texts that a request quotes, in order; of long ones the beginning."""
    return [json.JSONDecoder().raw_decode(text)[0] for _, text in DATA.findall(user_text(body))]


def fair(body: dict[str, Any]) -> str:
    """Judge by string equality, containment, and how red a picture is."""
    return globals()[f"_{prompt_of(body)}"](body, *data_of(body))


def redness(body: dict[str, Any]) -> float:
    """The red of the last picture of a request, from 0 to 1."""
    image = Image.open(io.BytesIO(base64.b64decode(pictures(body)[-1].split(",")[1])))
    red = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert isinstance(red, tuple)
    return round(red[0] / 255)


def _mmhal(body: Any, contents: str, question: str, reference: str, response: str) -> str:
    return f"I compared them. Rating: {6 if response == reference else 2 if 'unsure' not in response else 3}"


def _objects_named(body: Any, description: str) -> str:
    return verdict(body, objects=sorted(set(re.findall(r"\w+", description))))


def _hallusion(body: Any, question: str, reference: str, response: str) -> str:
    answer = yes_no(response)
    return verdict(
        body, verdict="unclear" if answer is None else "correct" if answer == yes_no(reference) else "incorrect"
    )


def _tempcompass(body: Any, question: str, reference: str, response: str) -> str:
    right = reference.split(". ")[-1]
    return verdict(body, verdict="correct" if right in response else "incorrect")


def _tempcompass_caption(body: Any, caption: str, question: str) -> str:
    lines = [line for line in question.split("\n")[1:] if line.split(". ")[-1] in caption]
    return "\n".join(lines) or "It does not say."


def _mathverse_extract(body: Any, question: str, response: str) -> str:
    text = answer_text(response)
    return verdict(body, answer=None if text in ("?", None) else text)


def _mathverse_score(body: Any, question: str, reference: str, response: str) -> str:
    return verdict(body, same=reference.casefold() == response.casefold())


def _decap_facts(body: Any, caption: str) -> str:
    facts = _sentences(caption)
    return verdict(body, facts=facts, relevant=["mood" not in fact for fact in facts])


def _decap_match(body: Any, facts: str, oracle: str) -> str:
    known = json.loads(oracle)
    return verdict(body, matched=[known.index(fact) if fact in known else None for fact in json.loads(facts)])


def _decap_verify(body: Any, reference: str, facts: str) -> str:
    return verdict(body, verified=[fact in reference for fact in json.loads(facts)])


def _captionqa(body: Any, caption: str, question: str) -> str:
    options = [line.split(". ", 1) for line in question.split("\n")[1:]]
    known = [letter for letter, text in options if text in caption]
    cannot = [letter for letter, text in options if text.startswith("Cannot answer")]
    return (known or cannot or ["?"])[0]


def _caparena(body: Any, reference: str, first: str, second: str) -> str:
    if first == second:
        return "Tie"
    return f"Caption {1 if first == reference else 2} is better."


def _gedit_semantics(body: Any, instruction: str) -> str:
    return verdict(body, reasoning="so", score=[10 * redness(body), 10 * redness(body)])


def _gedit_quality(body: Any) -> str:
    return verdict(body, reasoning="so", score=[10, 10 * redness(body)])


def _imgedit(body: Any, instruction: str, kind: str) -> str:
    return verdict(body, reasoning="so", score=[1 + 4 * redness(body)] * 3)


def _caption_claims(body: Any, caption: str) -> str:
    return verdict(body, claims=_sentences(caption))


def _caption_check(body: Any, claims: str) -> str:
    count = len(json.loads(claims))
    return verdict(body, true=[True] * count, pointable=[True] * count)


def _caption_coverage(body: Any, caption: str, units: str) -> str:
    return verdict(body, covered=[unit in caption for unit in json.loads(units)])


def _caption_language(body: Any, caption: str) -> str:
    return verdict(body, clarity=10, fluency=10, coherence=10)


def _sentences(caption: str) -> list[str]:
    return list(dict.fromkeys(sentence.strip() for sentence in caption.split(".") if sentence.strip()))

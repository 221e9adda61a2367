"""Captions: COCO (Karpathy's test split), NoCaps and Flickr30k by overlap with references; DeCapBench, CaptionQA and
CapArena-Auto by a judge.

Every set with references also has b-CapScore where the run has a judge. The prompts of the judges say in our words what
the protocols ask: with them, and another judge, numbers are not those of the papers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, listed, picture, variant
from eval.benchmarks.caption_corpus import corpus_scores
from eval.benchmarks.files import rows_of
from eval.benchmarks.metrics import groups, mean, micro, prefixed, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.judged.captions import b_cap_score

logger = logging.getLogger(__name__)

SHORT_CAPTION = "Describe this image in one sentence."
LONG_CAPTION = "Describe this image in detail."
CANNOT = "Cannot answer from the caption"
AUXILIARIES = (
    *("is", "are", "was", "were", "do", "does", "did", "have", "has", "had", "can", "could", "will", "would"),
    *("should", "shall", "may", "might", "must"),
)
PARTS = ("judge_precision", "judge_recall", "judge_language")
B_CAP = {
    "judge_precision": variant("caption_precision"),
    "judge_recall": variant("caption_recall"),
    "judge_language": variant("caption_language"),
}


def referenced(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A picture with reference captions, in the columns of any of the three sets; rows of other splits are no item."""
    if str(row.get("split", "test")) != "test" and "sentences" in row:
        return
    cells = next(row[name] for name in ("annotations_captions", "answer", "caption", "sentences") if name in row)
    references = [str(one["raw"] if isinstance(one, Mapping) else one).strip() for one in listed(cells)]
    if not any(references):
        raise InputError(f"a row of captions has no reference: {dict(row)!r:.200}")
    image = row.get("image") or "/".join(str(row[name]) for name in ("filepath", "filename") if row.get(name))
    keys = ("image_id", "cocoid", "question_id", "img_id", "imgid", "filename")
    domain = row.get("domain") or row.get("image_domain")
    yield Item(
        id=str(next((row[key] for key in keys if row.get(key) is not None), image)),
        task="caption",
        text=SHORT_CAPTION,
        answer={"references": references},
        media=picture(image),
        meta={"domain": str(domain)} if domain else {},
    )


def corpus_metrics(records: Sequence[Record]) -> Metrics:
    """CIDEr, BLEU and ROUGE-L of the whole set and of each domain, mean length in words, and b-CapScore if judged."""
    places: dict[str, list[int]] = {"": list(range(len(records)))}
    for i, record in enumerate(records):
        if "domain" in record.meta:
            places.setdefault(str(record.meta["domain"]), []).append(i)
    said, references = [r.answer_text or "" for r in records], [r.gold["references"] for r in records]
    parts = corpus_scores(said, references, places)
    found = {f"{name}.{key}".lstrip("."): value for name, part in parts.items() for key, value in part.items()}
    return {
        **found,
        "overlap": micro(records, "overlap"),
        **_detail(records),
        "unparsed": unparsed_share(records, "overlap"),
    }


def decapbench(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A picture with atomic facts and a caption that people wrote."""
    facts = [str(one) for one in listed(row["oracle_facts"])]
    if not facts:
        raise InputError(f"{row['image_name']} has no oracle facts")
    answer = {"references": [str(row["oracle_caption"])], "units": facts}
    media = picture(row.get("image") or row["image_name"])
    yield Item(str(row["image_name"]), "caption", LONG_CAPTION, answer, media)


def decapbench_metrics(records: Sequence[Record]) -> Metrics:
    """DCScore from 0 to 100, a mean over captions."""
    score = micro(records, "judge_dcscore")
    return {
        "judge_dcscore": None if score is None else 100 * score,
        **_detail(records),
        "unparsed": unparsed_share(records, "judge_dcscore"),
    }


def quizzed(files: list[Path], columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows of CaptionQA with their questions as they are asked: options shuffled by one generator over the whole set in
    its order, with "cannot answer" among those of questions that are not yes/no. Questions whose answer is none of
    their choices are left out, as published, and counted."""
    shuffle, dropped = random.Random(0).shuffle, 0
    for row in rows_of(files, columns):
        quiz = []
        for entry in listed(row["questions"]):
            choices, answer = [str(one) for one in listed(entry["choices"])], str(entry["answer"]).strip()
            right = next((i for i, choice in enumerate(choices) if choice.strip() == answer), None)
            if len(choices) < 2 or right is None:
                dropped += 1
                continue
            options = choices if is_yes_no(str(entry["question"]), choices) else [*choices, CANNOT]
            order = list(range(len(options)))
            shuffle(order)
            cannot = order.index(len(choices)) if len(options) > len(choices) else None
            kind = entry.get("category")
            quiz.append(
                {
                    "question": str(entry["question"]),
                    "options": [options[i] for i in order],
                    "right": order.index(right),
                    "cannot": cannot,
                    "category": str(listed(kind)[0] if isinstance(kind, list | tuple) and len(kind) else kind or ""),
                }
            )
        yield {**row, "quiz": quiz}
    if dropped:
        logger.warning("%d questions have no right choice and are left out, as published", dropped)


def is_yes_no(question: str, choices: Sequence[str]) -> bool:
    """Whether CaptionQA takes a question for one of yes or no: "yes" and "no" are in choices, or it starts with an
    auxiliary verb.

    >>> is_yes_no("Is it red or blue?", ["red", "blue"]), is_yes_no("Which?", ["red", "blue"])
    (True, False)
    """
    said = [choice.strip().lower() for choice in choices]
    both = any("yes" in one for one in said) and any("no" in one for one in said)
    return both or question.strip().lower().startswith(tuple(f"{verb} " for verb in AUXILIARIES))


def captionqa(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """Pictures with questions; rows without one are no item."""
    if not row["quiz"]:
        return
    images = listed(row["images"]) if not isinstance(row["images"], str) else [row["images"]]
    media = tuple(medium for image in images for medium in picture(image))
    meta = {"domain": str(row["domain"])} if row.get("domain") else {}
    yield Item(str(row["id"]), "caption", LONG_CAPTION, {"quiz": row["quiz"]}, media, meta)


def captionqa_metrics(records: Sequence[Record]) -> Metrics:
    """Score, accuracy and the rate of "cannot answer", over questions, also by domain; the share of replies unread."""
    found = _quiz(records)
    for name, group in groups(records, "domain").items():
        found |= prefixed(name, _quiz(group))
    return {**found, **_length(records), "unparsed": unparsed_share(records, "judge_captionqa")}


def caparena(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A picture with the caption of one of three models and one by a person; who comes first hangs on its name."""
    name, captions, rival = str(row["key"]), dict(row["captions"]), str(row["ref_model"])
    if rival not in captions or "human" not in captions:
        raise InputError(f"{name}: captions of {', '.join(captions)}; expected {rival} and human")
    first = hashlib.sha256(name.encode()).digest()[0] % 2 == 0
    answer = {"references": [str(captions["human"])], "rival": str(captions[rival]), "first": first}
    meta = {"rival": rival, "first": first}
    yield Item(name, "caption", LONG_CAPTION, answer, picture(row.get("image") or name), meta)


def caparena_metrics(records: Sequence[Record]) -> Metrics:
    """(wins - losses) / battles x 100 against each reference model, and the mean of them; mean length in words."""
    battles = groups(records, "rival")
    scores = {name: _battle(group) for name, group in battles.items()}
    return {
        "judge_caparena": mean(scores.values()),
        **prefixed("judge_caparena", scores),
        **_length(records),
        "unparsed": unparsed_share(records, "judge_caparena"),
    }


def b_cap_of(records: Sequence[Record]) -> float | None:
    """b-CapScore from 0 to 100: the mean over captions of the harmonic mean of precision, recall and language."""
    found = []
    for record in records:
        parts = [score for name in PARTS if (score := record.scores.get(name)) is not None]
        if len(parts) == len(PARTS):
            found.append(b_cap_score(*parts))
    return mean(found)


def _detail(records: Sequence[Record]) -> Metrics:
    judged = {"judge_b_capscore": b_cap_of(records), **{name: micro(records, name) for name in PARTS}}
    there = any(name in record.scores for record in records for name in PARTS)
    return {**(judged if there else {}), **_length(records)}


def _length(records: Sequence[Record]) -> Metrics:
    return {"length": mean(float(len((record.answer_text or "").split())) for record in records)}


def _quiz(records: Iterable[Record]) -> Metrics:
    counts = [json.loads(record.why["judge_captionqa"]) for record in records if _counted(record)]
    n = sum(one["n"] for one in counts)
    names = {
        "judge_captionqa": "score",
        "judge_accuracy": "right",
        "judge_cannot_answer": "cannot",
        "judge_unread": "unread",
    }
    return {name: sum(one[key] for one in counts) / n if n else None for name, key in names.items()}


def _counted(record: Record) -> bool:
    return record.scores.get("judge_captionqa") is not None and record.why["judge_captionqa"].startswith("{")


def _battle(records: Iterable[Record]) -> float | None:
    outcome = mean(None if (score := r.scores.get("judge_caparena")) is None else 2 * score - 1 for r in records)
    return None if outcome is None else 100 * outcome


OVERLAP = {"overlap": default("rouge_l")}
_JAVA = "Java, for the PTB tokenizer of pycocoevalcap; METEOR and SPICE are not computed"
BENCHMARKS = [
    Benchmark(
        "coco_captions", "lmms-lab/COCO-Caption", ("image", "answer"), referenced, OVERLAP, corpus_metrics, "test",
        5000, needs=_JAVA, judged=B_CAP,
    ),
    Benchmark(
        "coco_karpathy", "Karpathy's dataset_coco.json", ("filename", "split", "sentences"), referenced, OVERLAP,
        corpus_metrics, needs=_JAVA, judged=B_CAP,
    ),
    Benchmark(
        "nocaps", "lmms-lab/NoCaps", ("image", "annotations_captions"), referenced, OVERLAP, corpus_metrics,
        "validation", 4500, needs=_JAVA, judged=B_CAP,
    ),
    Benchmark(
        "flickr30k", "lmms-lab/flickr30k", ("image", "caption"), referenced, OVERLAP, corpus_metrics, needs=_JAVA,
        judged=B_CAP,
    ),
    Benchmark(
        "decapbench", "MAGAer13/DeCapBench", ("image_name", "oracle_facts", "oracle_caption"), decapbench, {},
        decapbench_metrics, rows=400, needs="a judge that sees pictures",
        judged={"judge_dcscore": default("eval.scorers.captions:dcscore"), **B_CAP},
    ),
    Benchmark(
        "captionqa", "Borise/CaptionQA", ("id", "images", "questions"), captionqa, {}, captionqa_metrics, "all",
        read=quizzed, needs="a judge (published: Qwen2.5-72B)",
        judged={"judge_captionqa": default("eval.scorers.captions:captionqa")},
    ),
    Benchmark(
        "caparena_auto", "njucckevin/CapArena, caparena_auto_600.json", ("key", "captions", "ref_model"), caparena, {},
        caparena_metrics, rows=600, needs="a judge that sees pictures (published: GPT-4o)",
        judged={"judge_caparena": default("eval.scorers.captions:caparena")},
    ),
]  # fmt: skip

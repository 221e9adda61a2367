"""Captions against references: COCO (also Karpathy's test split), NoCaps and Flickr30k.

Every set also has b-CapScore if the run has a judge. Its prompts give the protocol in our words. With them, and with
another judge, numbers differ from those of the papers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from eval.benchmarks.base import Benchmark, Item, Metrics, Row, default, variant
from eval.benchmarks.caption_corpus import corpus_scores
from eval.benchmarks.cells import listed, picture
from eval.benchmarks.metrics import mean, mean_words, micro, unparsed_share
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.judged.captions import b_cap_score

SHORT_CAPTION = "Describe this image in one sentence."
PARTS = ("judge_precision", "judge_recall", "judge_language")
B_CAP = {
    "judge_precision": variant("caption_precision"),
    "judge_recall": variant("caption_recall"),
    "judge_language": variant("caption_language"),
}
OVERLAP = {"overlap": default("rouge_l")}
_JAVA = "Java, for the PTB tokenizer of pycocoevalcap; METEOR and SPICE are not computed"


def caption_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An image with reference captions, in the columns of any of the three sets; rows of other splits are skipped."""
    if str(row.get("split", "test")) != "test" and "sentences" in row:
        return
    cells = next(row[name] for name in ("annotations_captions", "answer", "caption", "sentences") if name in row)
    references = [str(caption["raw"] if isinstance(caption, Mapping) else caption).strip() for caption in listed(cells)]
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
    predicted, references = [r.answer_text or "" for r in records], [r.gold["references"] for r in records]
    parts = corpus_scores(predicted, references, places)
    numbers = {f"{name}.{key}".lstrip("."): value for name, part in parts.items() for key, value in part.items()}
    return {
        **numbers,
        "overlap": micro(records, "overlap"),
        **b_cap_metrics(records),
        "unparsed": unparsed_share(records, "overlap"),
    }


def b_cap_of(records: Sequence[Record]) -> float | None:
    """b-CapScore from 0 to 100: the mean over captions of the harmonic mean of precision, recall and language."""
    scores = []
    for record in records:
        parts = [score for name in PARTS if (score := record.scores.get(name)) is not None]
        if len(parts) == len(PARTS):
            scores.append(b_cap_score(*parts))
    return mean(scores)


def b_cap_metrics(records: Sequence[Record]) -> Metrics:
    """b-CapScore and its parts if they were judged, and the mean length in words."""
    judged = {"judge_b_capscore": b_cap_of(records), **{name: micro(records, name) for name in PARTS}}
    there = any(name in record.scores for record in records for name in PARTS)
    return {**(judged if there else {}), "length": mean_words(records)}


_captions = partial(
    Benchmark,
    items=caption_items,
    scorers=OVERLAP,
    metrics=corpus_metrics,
    known_by="CIDEr",
    needs=_JAVA,
    judged=B_CAP,
)
BENCHMARKS = [
    _captions(
        name="coco_captions",
        version=2,
        about="One sentence. CIDEr, BLEU and ROUGE-L of the whole set by pycocoevalcap.",
        hub="lmms-lab/COCO-Caption",
        columns=("image", "answer"),
        rows=5000,
    ),
    _captions(
        name="coco_karpathy",
        version=2,
        about="As coco_captions, from Karpathy's JSON of splits.",
        hub="Karpathy's dataset_coco.json",
        columns=("filename", "split", "sentences"),
    ),
    _captions(
        name="nocaps",
        version=2,
        about="One sentence. CIDEr, BLEU and ROUGE-L, also by domain.",
        hub="lmms-lab/NoCaps",
        columns=("image", "annotations_captions"),
        split="validation",
        rows=4500,
    ),
    _captions(
        name="flickr30k",
        version=2,
        about="One sentence. CIDEr, BLEU and ROUGE-L.",
        hub="lmms-lab/flickr30k",
        columns=("image", "caption"),
    ),
]

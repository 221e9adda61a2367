"""CIDEr, BLEU and ROUGE-L of a whole corpus by pycocoevalcap, after the PTB tokenizer, which runs in Java.

The extra `captions` brings pycocoevalcap. Without it or without Java the numbers are None: with the
tokens of another library they would differ. METEOR and SPICE need more downloads, and are always None.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import shutil
from collections.abc import Mapping, Sequence

from eval.benchmarks.base import Metrics

logger = logging.getLogger(__name__)

NAMES = ("cider", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l")
ABSENT = ("meteor", "spice")
LAST = "the very last line"


def corpus_scores(
    predicted: Sequence[str], references: Sequence[Sequence[str]], parts: Mapping[str, Sequence[int]]
) -> dict[str, Metrics]:
    """The scores of captions against the references of their images, for each of the `parts` (lists of places).

    CIDEr weighs a word by the number of images with it in their references: it is a number of a corpus, not of a
    caption, and 0 if all images share their references. It is multiplied by 10, as published. The others are in [0, 1].
    """
    missing = missing_runtime()
    if missing:
        logger.warning("no CIDEr, BLEU and ROUGE-L: %s", missing)
        return {part: dict.fromkeys((*NAMES, *ABSENT)) for part in parts}
    tokens = tokenized([[caption, *golds] for caption, golds in zip(predicted, references, strict=True)])
    return {part: _scores({i: tokens[i] for i in places}) for part, places in parts.items()}


def _scores(tokens: Mapping[int, list[str]]) -> Metrics:
    """The scores of captions, each before its references."""
    if not tokens:
        return dict.fromkeys((*NAMES, *ABSENT))
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    answers, golds = ({i: part[:1] for i, part in tokens.items()}, {i: part[1:] for i, part in tokens.items()})
    with contextlib.redirect_stdout(io.StringIO()):
        cider, _ = Cider().compute_score(golds, answers)
        bleu, _ = Bleu(4).compute_score(golds, answers, verbose=0)
        rouge, _ = Rouge().compute_score(golds, answers)
    values = (cider, *bleu, rouge)
    return {name: float(value) for name, value in zip(NAMES, values, strict=True)} | dict.fromkeys(ABSENT)


def tokenized(texts: Sequence[Sequence[str]]) -> dict[int, list[str]]:
    """The texts of each picture as lower-case PTB tokens without punctuation.

    The tokenizer works line by line. So that no caption moves to another image, line breaks become blanks, texts
    without words are not sent, and a last line of our own must come back as the last.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    plain = [" ".join(text.encode("utf-8", "replace").decode().split()) for several in texts for text in several]
    asked = {0: [{"caption": text} for text in plain if text], 1: [{"caption": LAST}]}
    lines = PTBTokenizer().tokenize(asked)
    if lines.get(1) != [LAST]:
        raise RuntimeError(f"the PTB tokenizer gave back other lines than the {len(plain)} it got")
    tokens = iter(lines.get(0, []))
    whole = iter([next(tokens) if text else "" for text in plain])
    return {i: [next(whole) for _ in several] for i, several in enumerate(texts)}


def missing_runtime() -> str:
    """The reason why these numbers cannot be computed, or an empty text."""
    if importlib.util.find_spec("pycocoevalcap") is None:
        return "pip install 'mmrl-stack[captions]'"
    return "" if shutil.which("java") else "the PTB tokenizer of pycocoevalcap needs Java"

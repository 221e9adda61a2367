"""The reference page of the families, made from their twins: `python -m tests.support.families.page` writes it."""

from __future__ import annotations

from pathlib import Path

from docs.tools.describe import table
from mmrl.core.families import family_of
from mmrl.core.vision import geometry_of
from mmrl.grpo.shared_prefix.attention import takes_packed_rows
from mmrl.grpo.shared_prefix.prefix_cache import takes_prefill
from mmrl.model.encoding import kinds_of
from tests.support.families import NOTES, TWINS, twin_of

PLACE = Path(__file__).parents[3] / "docs" / "reference" / "families.md"
TOP = """# Model families

Of each of these families there is a tiny random model of the real classes in `tests/support/families`, with its real
processor. `tests/mmrl/test_families.py` holds for each of them, alone and in mixed batches:

- the token ids of a prompt are those of the library's own `apply_chat_template(..., tokenize=True)`: text, one picture,
  two pictures, a video, a picture with a video;
- the log-probs are those of the library's own forward, to 1e-5;
- tokens that stand for media cannot be sampled; a kind of media that the family does not take is refused.

`tests/mmrl/test_families_train.py` trains each of them (two steps of SFT, two of GRPO). Losses and gradients are the
same with prompts [shared](../guide/training.md#shared-prompts) or not. Merged adapters predict what the trained model
predicts. A run goes on where it stopped. Most of it is in `make test-all`. Real weights were not run.

"""
BOTTOM = """
*scored at once*: the completions of a prompt are scored in one packed row. *answered at once*: a prompt is prefilled
once for its group. Where it says no, the architecture does not allow it: each rollout reads its prompt. *sizes*: the
[vision budget](configs.md#visionbudget) predicts the size at which a picture is seen.

Other families work as far as transformers loads them as image-text-to-text models. What their processor returns and
`forward` names is handed on; what cannot be is refused at the start, by name. Models with an encoder for the text are
refused.

A special token in a text of a sample (`<|im_end|>`, `<image>`) is text, in questions and in answers. Where a tokenizer
cannot do that, the sample is refused by its id. Answers to learn, and injected ones, end as the template ends a turn
(`<end_of_turn>` of Gemma 3). Where the prompt has opened the answer (`<think>` of Qwen3-VL-Thinking), they leave that
out, and the rewards of form count it in.
"""


def page() -> str:
    """The page as it should be."""
    rows = []
    for name in sorted(TWINS, key=str.lower):
        model, processor = twin_of(name)
        kinds = ", ".join(f"{kind}s" for kind in sorted(kinds_of(processor) - family_of(model.config).fails_on))
        shared = [_word(takes_packed_rows(model)), _word(takes_prefill(model))]
        sizes = _word(geometry_of(processor) is not None)
        rows.append((name, f"`{model.config.model_type}`", kinds, *shared, sizes, NOTES.get(name, "")))
    head = ("family", "`model_type`", "media", "scored at once", "answered at once", "sizes", "")
    return TOP + table(head, rows) + "\n" + BOTTOM


def _word(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    PLACE.write_text(page(), encoding="utf-8")

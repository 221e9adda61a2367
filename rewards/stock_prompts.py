"""Stock prompts: short texts that ask for the form which a reward reads, by name.

A `prompt:` block names them: `system: think_answer`, `tasks: {choice: {suffix: letter_only}}`. A changed text is
another protocol. To add one, write an entry in STOCK; `tests/rewards/test_prompts.py` holds it against the rewards that
it names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StockPrompt:
    """A text, and the registered rewards that read what it asks for."""

    text: str
    read_by: tuple[str, ...]


STOCK: dict[str, StockPrompt] = {
    "think_call_answer": StockPrompt(
        "First think between <think> and </think>. Then either call tools, or write the answer alone between <answer> "
        "and </answer>. After the results of calls, think again.",
        ("tool_format",),
    ),
    "think_answer": StockPrompt(
        "First think, then answer. Write your reasoning between <think> and </think>, and after it the answer alone "
        "between <answer> and </answer>.",
        ("think_format", "tag_format"),
    ),
    "answer_tags": StockPrompt("Write the answer alone between <answer> and </answer>.", ("tag_format",)),
    "boxed": StockPrompt("Write the final answer in \\boxed{}.", ("math_match",)),
    "letter_only": StockPrompt("Answer with the letter of the right option alone.", ("choice_match",)),
    "yes_or_no": StockPrompt("Answer yes or no.", ("yesno_match",)),
    "number_only": StockPrompt("Answer with a number alone, in digits.", ("number_match",)),
    "few_words": StockPrompt("Answer with a single word, number or phrase.", ("text_match", "anls", "relaxed_match")),
    "box": StockPrompt("Answer with the corners of its box: [x1, y1, x2, y2].", ("box_iou",)),
    "box_json": StockPrompt(
        'Answer with its box in JSON: {"bbox_2d": [x1, y1, x2, y2]}.', ("box_iou", "json_format", "box_set")
    ),
    "boxes_json": StockPrompt(
        'Answer with a list in JSON, one entry for each object: [{"bbox_2d": [x1, y1, x2, y2], "label": "name"}]. '
        "Where there is none, answer [].",
        ("box_set", "json_format"),
    ),
    "points_json": StockPrompt(
        'Answer with a list in JSON, one entry for each place: [{"point_2d": [x, y], "label": "name"}].',
        ("point_match", "json_format"),
    ),
    "objects_json": StockPrompt(
        "Answer with a list in JSON, one entry for each object: "
        '[{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}]. Where there is none, answer [].',
        ("box_set", "json_format"),
    ),
    "span_seconds": StockPrompt("Answer with the time in seconds: [start, end].", ("span_iou",)),
    "sql_query": StockPrompt("Answer with one SQLite query, and nothing else.", ("sql_match",)),
    "describe": StockPrompt(
        "Describe in whole sentences what can be seen, and nothing that cannot.",
        ("bmas", "bleu", "caption_precision", "caption_recall", "caption_language"),
    ),
    "verify_edit": StockPrompt(
        "The first picture is the original, the second is its edit. First reason freely. Then write yes/no questions "
        'that the edit must pass, with a score for each: [{"question": "...", "score": 0 or 1}]. Last write your '
        "verdict from 0 to 10 between <score> and </score>.",
        ("verifier_score",),
    ),
    "tool_call": StockPrompt(
        'Call a tool by writing {"name": ..., "parameters": {...}} between <tool_call> and </tool_call>, '
        "one call a line.",
        ("tool_call",),
    ),
}

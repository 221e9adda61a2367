"""One reading of the content of chat messages, which is a text or a list of parts."""

from __future__ import annotations

from mmrl.core.messages import media_parts, parts_of, pieces_of, prompt_text, texts_of, user_text

CONTENT = [{"type": "text", "text": "Is"}, {"type": "image"}, {"type": "text", "text": "like"}, {"type": "video"}]
PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": CONTENT}]


def test_a_text_is_a_message_of_one_part() -> None:
    assert parts_of("Where?") == [{"type": "text", "text": "Where?"}]
    assert (parts_of(None), texts_of("Where?"), pieces_of("Where?")) == ([], ["Where?"], ["Where?"])


def test_parts_are_read_in_order() -> None:
    assert texts_of(CONTENT) == ["Is", "like"]
    assert pieces_of(CONTENT) == ["Is", "<image>", "like", "<video>"]
    assert media_parts(PROMPT) == ["image", "video"]


def test_a_prompt_has_the_texts_of_all_roles_and_those_of_the_user() -> None:
    assert prompt_text(PROMPT) == "Be brief.\nIs\nlike"
    assert [user_text(prompt) for prompt in (PROMPT, "Where?", None, [])] == ["Is\nlike", "Where?", "", ""]

"""Captions and edits, judged by a scripted server: numbers one can check by hand, None for every reply that is none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rewards import Media, Rollout, get
from rewards.chat_client.faults import Unreadable
from rewards.judged.captions import CANNOT, b_cap_score, question_of
from rewards.judged.edits import dimension, ensemble, parse_rrm, parse_scores
from tests.support.judge_server import quotes, replying, score, serving, user_text, verdict


def test_precision_is_the_share_of_claims_that_are_true_and_pointable(picture: Media) -> None:
    def script(body: dict[str, Any]) -> str:
        if "List every claim" in user_text(body):
            return verdict(body, claims=["a", "b", "c", "d", "e", "A ", ""])
        assert json.loads(quotes(body)[0]) == ["a", "b", "c", "d", "e"]  # each once
        return verdict(body, true=[True, True, True, True, False], pointable=[True, True, True, False, True])

    with serving(script) as server:
        rollout = Rollout("a caption", media=[picture])
        assert score(server, "caption_precision", rollout).score == pytest.approx(0.6)
        assert score(server, "caption_precision", rollout, pointable=False).score == pytest.approx(0.8)
        assert score(server, "caption_precision", Rollout("a caption")).kind == "abstained"


def test_a_caption_that_claims_nothing_is_worth_nothing(picture: Media) -> None:
    with serving(replying(claims=[])) as server:
        assert score(server, "caption_precision", Rollout("It feels cosy.", media=[picture])).score == 0
        assert score(server, "caption_precision", Rollout("", media=[picture])).score == 0
        assert len(server.bodies) == 1


def test_recall_is_the_share_of_units_covered() -> None:
    def script(body: dict[str, Any]) -> str:
        if "List every claim" in user_text(body):
            return verdict(body, claims=list("uvwxyz"))
        return verdict(body, covered=[True, True, False, True, True, False])

    with serving(script) as server:
        given = Rollout("a caption", {"units": list("uvwxyz")})
        split = Rollout("a caption", {"units": None, "references": ["a reference", "another"]})
        assert score(server, "caption_recall", given).score == pytest.approx(0.6666667)
        assert score(server, "caption_recall", split).score == pytest.approx(0.6666667)
        assert score(server, "caption_recall", Rollout("", {"units": ["u"]})).score == 0
        for answer in (None, {}, {"units": []}, {"references": []}, {"references": ""}):
            assert score(server, "caption_recall", Rollout("a caption", answer)).kind == "abstained"
        assert score(server, "caption_recall", Rollout("a caption", {"units": ["u"]})).kind == "failed"


def test_language_is_the_mean_of_three_scores() -> None:
    with serving(replying(clarity=8, fluency=9, coherence=7)) as server:
        assert score(server, "caption_language", Rollout("a caption")).score == pytest.approx(0.8)
        assert score(server, "caption_language", Rollout("")).score == 0
    with serving(replying(clarity=8, fluency=9)) as server:
        assert score(server, "caption_language", Rollout("a caption")).kind == "failed"


def test_b_cap_score_is_the_harmonic_mean() -> None:
    assert b_cap_score(0.6, 4 / 6, 0.8) == pytest.approx(67.9245283)
    assert b_cap_score(0.6, 0.0, 0.8) == 0


MANY = {"questions": [{"question": "?", "options": [str(i) for i in range(26)], "choice": "A"}]}  # more than letters


def quiz(count: int) -> list[dict[str, Any]]:
    """Questions in the names of datasets of this project and of CaptionQA, in turn."""
    colours, names = ["red", "green", "blue", "white"], (("options", "choice"), ("choices", "answer"))
    return [
        {"question": f"Which colour is bus {i}?", names[i % 2][0]: colours, names[i % 2][1]: "B"} for i in range(count)
    ]


def test_utility_is_the_mean_worth_of_the_answers() -> None:
    chosen = ["green", "green", "red", CANNOT]

    def script(body: dict[str, Any]) -> str:
        caption, question = quotes(body)
        assert caption == "a caption"
        wanted = chosen[int(re.findall(r"bus (\d)", question)[0])]
        return verdict(body, answer=re.findall(rf"^([A-E])\. {wanted}", question, re.MULTILINE)[0])

    with serving(script) as server:
        rollout = Rollout("a caption", {"questions": quiz(4)})
        assert score(server, "caption_utility", rollout).score == pytest.approx(0.575)
        assert score(server, "caption_utility", Rollout("", {"questions": quiz(4)})).score == 0
        for answer in (None, {"questions": []}, {"questions": [{"question": "?"}]}, {"questions": ["?"]}, MANY):
            assert score(server, "caption_utility", Rollout("a caption", answer)).kind == "abstained"


def test_one_question_without_an_answer_leaves_no_verdict_on_a_caption() -> None:
    def script(body: dict[str, Any]) -> str:
        return verdict(body, answer="Z" if "bus 2" in user_text(body) else "A")

    with serving(script) as server:
        assert score(server, "caption_utility", Rollout("a caption", {"questions": quiz(4)})).kind == "failed"


def test_options_are_shuffled_alike_every_time_and_only_real_questions_may_be_declined() -> None:
    asked = [question_of(entry) for entry in quiz(20)]
    assert asked == [question_of(entry) for entry in quiz(20)]
    assert len({ask.options for ask in asked}) > 10
    assert all(sorted(ask.worth) == [0.0, 0.0, 0.0, pytest.approx(0.3), 1.0] for ask in asked)
    assert CANNOT not in question_of({"question": "Is it?", "choices": ["Yes", "No."], "answer": 0}).options


def rrm(scores: list[Any], average: Any = 0.8, final: str = "<score>7</score>") -> str:
    points = json.dumps([{"question": f"{i}?", "score": score} for i, score in enumerate(scores)])
    return f'I looked [{{"a": 1}}] twice.\n{points}\n{{"average_score": {average}}}\n{final}'


def test_a_verifier_is_read_by_its_contract_and_its_last_score_counts() -> None:
    parsed = parse_rrm(rrm([1] * 8 + [0] * 2), 10)
    assert (len(parsed.points), sum(score for _, score in parsed.points), parsed.average, parsed.score) == (
        10,
        8,
        0.8,
        7.0,
    )
    assert parse_rrm(rrm([1, 0], final="<score>3</score> no: <score> 7.25 </score>")).score == 7.25


@pytest.mark.parametrize(
    "text",
    [
        rrm([1], final=""),
        rrm([1], final="<score>11</score>"),
        rrm([1], final="<score>-1</score>"),
        rrm([1], final="<score>seven</score>"),
        rrm([1], final="<score>7/10</score>"),
        rrm([1, 1]),
        rrm([0.5]),
        rrm([True]),
        rrm(["1"]),
        rrm([1], average=8),
        "<score>7</score>",
        "[{" * 10_000 + "<score>7</score>",
        '[{"a":' * 10_000 + "<score>7</score>",
        f"<think>{rrm([1])}",
    ],
)
def test_what_breaks_the_contract_of_the_verifier_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        parse_rrm(text, 1)


def test_the_verifier_writes_its_checklist_once_for_all_edits_of_a_picture(picture: Media, tmp_path: Path) -> None:
    categories = ["Follow"] * 4 + ["Keep"] * 4 + ["Quality"] * 2
    edits = [Media("image", str(tmp_path / f"edit{i}.png")) for i in range(3)]
    for i, edit in enumerate(edits):
        Image.new("RGB", (80, 60), (i, 0, 0)).save(str(edit.path))

    def script(body: dict[str, Any]) -> str:
        if "Write exactly 10" in user_text(body):
            listed = [{"question": f"{name} {i}?", "category": name} for i, name in enumerate(categories)]
            return verdict(body, principles=listed)
        return rrm([1] * 8 + [0] * 2)

    rollouts = [Rollout("", {"instruction": "make it blue"}, media=[picture, edit]) for edit in edits]
    with serving(script) as server:
        assert [verdict.score for verdict in get("edit_verifier", judge=server.judge())(rollouts)] == [0.7] * 3
        assert len(server.bodies) == 4
        drawn = Rollout("", {"instruction": "make it blue"}, media=[picture], made=[edits[1]], gold_media=[edits[2]])
        assert score(server, "edit_verifier", drawn).score == 0.7
        given = Rollout("", {"instruction": "x", "principles": [{"question": "Blue?"}]}, media=rollouts[0].media)
        assert score(server, "edit_verifier", given).kind == "failed"  # ten points for one principle
        for answer in ({"instruction": "x", "principles": [3]}, {"instruction": "x", "principles": []}, {}):
            assert score(server, "edit_verifier", Rollout("", answer, media=given.media)).kind == "abstained"
        assert score(server, "edit_verifier", Rollout("", {"instruction": "x"}, media=[picture])).kind == "abstained"


def test_edit_scores_follow_the_paper() -> None:
    sc, pq = dimension([20, 15]), dimension([22, 18])
    assert (sc, pq) == (6.0, 7.2)
    assert ensemble([(sc, pq)]) == pytest.approx(6.5726707)
    assert ensemble([(6.86, 7.20)]) == pytest.approx(7.0279442)  # GEdit's overall
    assert ensemble([(6, 7.2), (8, 6.4)]) == pytest.approx(6.8640441)
    assert ensemble([(6, 7.2), (8, 6.4)], "first") == pytest.approx(6.8992753)


@pytest.mark.parametrize(
    "text", ['{"score": [1]}', '{"score": [1, 26]}', '{"score": [1, "2"]}', '{"score": 3}', "[1, 2]", "", "1, 2", "{"]
)
def test_raw_edit_scores_are_never_guessed(text: str) -> None:
    with pytest.raises(Unreadable):
        parse_scores(text)


def test_passes_have_their_own_seeds_and_one_that_cannot_be_read_is_left_out(picture: Media) -> None:
    def script(body: dict[str, Any]) -> str:
        quality = "natural" in user_text(body)
        raw = {0: ([15, 20], [18, 22]), 1: ([20, 20], [16, 25]), 2: None, 5: None}[body["seed"]]
        return json.dumps({"reasoning": "so", "score": raw[quality] if raw else [99, 99]})

    rollout = Rollout("", {"instruction": "make it blue"}, media=[picture, picture])
    with serving(script) as server:
        assert score(server, "edit_score", rollout, passes=3).score == pytest.approx(0.68640441)
        assert {body["seed"] for body in server.bodies} == {0, 1, 2, 5}
        assert {(body["temperature"], body["top_p"]) for body in server.bodies} == {(0.7, 0.9)}
        assert score(server, "edit_score", rollout, passes=3, average="first").score == pytest.approx(0.68992753)
    with serving(lambda body: "what?") as server:
        assert score(server, "edit_score", rollout, passes=2).kind == "failed"


def test_a_missing_picture_is_a_failure_of_that_rollout_alone(picture: Media, tmp_path: Path) -> None:
    gone = Media("image", str(tmp_path / "gone.png"))
    with serving(replying(score=7)) as server:
        rollouts = [Rollout("a", media=[gone]), Rollout("b", media=[picture]), Rollout("c", media=[Media()])]
        verdicts = get("judge", judge=server.judge())(rollouts)
    assert [verdict.score for verdict in verdicts] == [None, 0.7, None]
    assert all("media" in verdict.why for verdict in (verdicts[0], verdicts[2]))

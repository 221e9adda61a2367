"""Rollouts of several turns: the policy says something, its calls are run, it reads the results, and goes on.

A rollout that makes no call, or may make no more, has ended. Token ids of a rollout behind its prompt: what the policy
drew, results, what it drew next, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, wait
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, NamedTuple

from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.model.encoding import Encoded
from mmrl.tools.calls import Call, Outcome
from mmrl.tools.chat import ToolChat
from mmrl.tools.scene import Scene, Shown
from mmrl.tools.toolbox import Running, States, Toolbox


class Turn(NamedTuple):
    """What the policy said, and what came of its calls."""

    said: str
    outcomes: list[Outcome]


@dataclass(slots=True)
class Conversation:
    """A rollout as it grows. `row` is the prompt of the next turn; `ids` stand behind `prompt`, and `own` says which of
    them the policy drew, with their `logprobs` (NaN for the others)."""

    prompt: Encoded
    scene: Scene
    row: Encoded
    ids: list[int] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    behind: list[Encoded] = field(default_factory=list)  # the results that show media
    states: States = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All that the policy said, a turn to a paragraph; results are not among it."""
        return "\n".join(turn.said for turn in self.turns)

    @property
    def scored(self) -> Encoded:
        """The prompt with all media of the rollout, for a forward over the whole."""
        if not self.behind:
            return self.prompt
        parts = {"input_ids": self.prompt.input_ids, "seen_size": self.prompt.seen_size, "opened": self.prompt.opened}
        return replace(self.row, **parts, behind=tuple(self.behind), prompt=self.prompt)


def scene_of(media: Sequence[Media], prompt: Encoded, **known: Any) -> Scene:
    """What tools may look at when the answer to a sample with this `media` begins; `known` are other parts of it."""
    shown = [Shown(item, size) for item, size in zip(media, prompt.seen_size, strict=True)]
    return Scene(tuple(shown), **known)


class Drawn(NamedTuple):
    """Token ids and log-probs of one turn of each row."""

    ids: Sequence[Sequence[int]]
    logprobs: Sequence[Sequence[float]]


# Draws a turn for the conversations of these numbers: (numbers, number of the turn, most tokens) -> Drawn
Draw = Callable[[Sequence[int], int, int], Drawn]


def played(
    conversations: Sequence[Conversation],
    draw: Draw,
    toolbox: Toolbox,
    chat: ToolChat,
    *,
    max_turns: int,
    longest: int,
    apart: bool = False,
    anyone: Callable[[bool], bool] = bool,
) -> None:
    """Let all conversations take their turns; `longest` is the most tokens behind a prompt, results among them.

    They take their turns together, so that what is drawn with what depends on nothing but the seed. With `apart` those
    whose results are there go on, and no turn waits for the tool of another. `anyone` says whether any process goes on:
    `draw` is called equally often in all of them, which `apart` rules out.
    """
    try:
        _play(conversations, draw, toolbox, chat, max_turns, longest, apart, anyone)
    finally:
        toolbox.ended([one.states for one in conversations])


def _play(
    conversations: Sequence[Conversation],
    draw: Draw,
    toolbox: Toolbox,
    chat: ToolChat,
    max_turns: int,
    longest: int,
    apart: bool,
    anyone: Callable[[bool], bool],
) -> None:
    going, running = list(range(len(conversations))), dict[int, Running]()
    for turn in count():
        if not anyone(bool(going or running)):
            return
        together = _by_turn(conversations, going)
        if not together and not apart:
            together = {turn: []}  # a process that has ended draws for nothing
        for place, numbers in together.items():
            room = [longest - len(conversations[number].ids) for number in numbers]
            drawn = draw(numbers or [0], place, max(room, default=1))
            for number, left, ids, logprobs in zip(numbers, room, drawn.ids, drawn.logprobs, strict=False):
                _speak(conversations[number], chat, list(ids)[:left], list(logprobs)[:left])
        for number in going:
            one = conversations[number]
            calls = _calls(one, chat)
            if len(one.turns) == max_turns:
                one.turns[-1].outcomes.extend(Outcome(call, "no_turn_left", ()) for call in calls)
            elif calls:
                running[number] = toolbox.begun(calls, one.scene, one.states)
        came = {number: running.pop(number) for number in _ended(running, FIRST_COMPLETED if apart else ALL_COMPLETED)}
        going = [
            number
            for number, calls in came.items()
            if _read(conversations[number], chat, calls.outcomes(), longest=longest)
        ]


def _by_turn(conversations: Sequence[Conversation], going: Sequence[int]) -> dict[int, list[int]]:
    """The conversations that go on, by the number of their next turn."""
    by_turn: dict[int, list[int]] = {}
    for number in going:
        by_turn.setdefault(len(conversations[number].turns), []).append(number)
    return by_turn


def _ended(running: Mapping[int, Running], until: str) -> list[int]:
    """Those whose calls have ended, after a wait for one of them or for all."""
    ended: list[int] = []
    while running and not ended:
        wait([one for each in running.values() for one in each.futures if not one.done()], return_when=until)
        ended = [number for number, one in running.items() if one.ended()]
    return ended


def _speak(one: Conversation, chat: ToolChat, ids: list[int], logprobs: list[float]) -> None:
    """Add a turn of the policy."""
    opened = one.row.opened if one.turns else ""  # that of the prompt is known
    one.turns.append(Turn(opened + chat.said(ids), []))
    one.ids += ids
    one.own += [True] * len(ids)
    one.logprobs += logprobs


def _calls(one: Conversation, chat: ToolChat) -> list[Call]:
    """The calls of the last turn; a turn that was cut off makes none."""
    said = _last_said(one)
    return chat.calls(said, one.row.input_ids) if chat.ended(said) else []


def _read(one: Conversation, chat: ToolChat, outcomes: list[Outcome], *, longest: int) -> bool:
    """Add the outcomes of the last turn's calls; whether there is room for another turn.

    Where the results do not fit, the policy is told so; where that does not fit, the rollout has ended.
    """
    said = _last_said(one)
    left = longest - len(one.ids)
    for tried in (outcomes, [_short(outcome, left) for outcome in outcomes]):
        shown, results = _written(chat, tried)
        if len(results.input_ids) < left:
            one.turns[-1].outcomes.extend(shown)
            one.row = chat.grown(one.row, said, results)
            one.behind += [results] if results.kinds else []
            one.scene = _with(one.scene, shown, results)
            one.ids += results.input_ids
            one.own += [False] * len(results.input_ids)
            one.logprobs += [float("nan")] * len(results.input_ids)
            return True
    one.turns[-1].outcomes.extend(tried)
    return False


def _last_said(one: Conversation) -> list[int]:
    """The tokens that the policy has drawn behind `row`."""
    return one.ids[len(one.row.input_ids) - len(one.prompt.input_ids) :]


def _short(outcome: Outcome, left: int) -> Outcome:
    return Outcome(outcome.call, "no_room", (f"the result does not fit: {left} tokens are left",))


def _written(chat: ToolChat, outcomes: list[Outcome]) -> tuple[list[Outcome], Encoded]:
    """The outcomes as tokens, those that the processor does not take as errors."""
    try:
        return outcomes, chat.results(outcomes)
    except InputError:
        shown = [_usable(chat, outcome) for outcome in outcomes]
        return shown, chat.results(shown)


def _usable(chat: ToolChat, outcome: Outcome) -> Outcome:
    try:
        chat.results([outcome])
        return outcome
    except InputError as error:
        return Outcome(outcome.call, "unusable", (f"the result cannot be shown: {error}"[:300],))


def _with(scene: Scene, outcomes: list[Outcome], results: Encoded) -> Scene:
    """`scene` with the pictures and videos of the results."""
    pieces: list[Any] = [piece for one in outcomes for piece in one.told() if not isinstance(piece, str)]
    shown = [Shown(piece, size) for piece, size in zip(pieces, results.seen_size, strict=True)]
    return replace(scene, shown=(*scene.shown, *shown))

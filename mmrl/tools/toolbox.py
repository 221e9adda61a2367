"""Runs calls of tools, several at once, each in a process that is killed at its deadline."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from mmrl.core.config import nearest
from mmrl.tools.calling import WHY, Asked, Reply
from mmrl.tools.calls import MOST_CALLS, Call, Outcome
from mmrl.tools.registry import Tool, tools_of
from mmrl.tools.scene import Scene, readable
from mmrl.tools.search import index_of
from rewards.isolation.worker import Worker

logger = logging.getLogger(__name__)

States = dict[str, bytes]  # of a rollout: the pickled objects of its tools, by their "module:class"

PROCESSES = 4  # that run calls at the same time; each starts when it is first needed


class Running(NamedTuple):
    """Calls of a turn that have begun, as outcomes by their place; and those that are `left` out."""

    futures: Sequence[Future[dict[int, Outcome]]]
    left: Sequence[Call]

    def ended(self) -> bool:
        """Whether all have ended."""
        return all(future.done() for future in self.futures)

    def outcomes(self) -> list[Outcome]:
        """The outcomes in their places, when all have ended."""
        came = {place: outcome for future in self.futures for place, outcome in future.result().items()}
        found = [came[place] for place in sorted(came)]
        if self.left:
            told = f"{len(self.left)} more calls of this turn are not answered, at most {MOST_CALLS} are"
            found.append(Outcome(self.left[0], "too_many", (told,)))
        return found


class Toolbox:
    """The tools of these names; a call ends after `seconds`. `search` looks in the file `documents`, whose index is in
    the folder `index`. Its processes end with this object, or by `close`."""

    def __init__(self, names: Sequence[str], seconds: float, documents: str | None = None) -> None:
        self.tools: dict[str, Tool] = tools_of(names)
        self.index = None if documents is None else index_of(documents)
        self.seconds = seconds
        targets = list(dict.fromkeys(tool.target for tool in self.tools.values()))
        self._workers = [Worker("mmrl.tools.calling:called", first=targets) for _ in range(PROCESSES)]
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(PROCESSES, "tools")

    def outcomes(
        self, turns: Sequence[tuple[Sequence[Call], Scene]], states: Sequence[States] | None = None
    ) -> list[list[Outcome]]:
        """The outcomes of the calls of several turns, which run at the same time (`begun`)."""
        kept = [{} for _ in turns] if states is None else states
        running = [self.begun(calls, scene, own) for (calls, scene), own in zip(turns, kept, strict=True)]
        return [one.outcomes() for one in running]

    def begun(self, calls: Sequence[Call], scene: Scene, states: States) -> Running:
        """Begin the calls of a turn whose model has seen `scene`. MOST_CALLS run at the same time, but those of one
        object one after the other; all others have one outcome together.

        `states` are those of the rollout, which become those after the calls.
        """
        chains: dict[int | str, dict[int, Call]] = {}
        for place, call in enumerate(calls[:MOST_CALLS]):
            tool = self.tools.get(call.name)
            chains.setdefault(tool.target if tool and tool.method else place, {})[place] = call
        futures = [self._threads.submit(self._in_order, chain, scene, states) for chain in chains.values()]
        return Running(futures, calls[MOST_CALLS:])

    def ended(self, states: Iterable[States]) -> None:
        """Rollouts with these states have ended: objects that have a method `close` are told so."""
        closing = {tool.target for tool in self.tools.values() if tool.closes}
        held = [(target, state) for own in states for target, state in own.items() if target in closing]
        asked = [Asked(target, "close", {}, Scene(), state) for target, state in held]
        for reply in self._threads.map(self._reply, asked, [f"{target}.close" for target, _ in held]):
            if reply.kind != "ok":
                logger.warning("an object of a tool could not be closed: %s: %s", reply.kind, reply.pieces[0])

    def close(self) -> None:
        """End the processes; a later call starts them again."""
        for worker in self._workers:
            worker.close()

    def _in_order(self, calls: Mapping[int, Call], scene: Scene, states: States) -> dict[int, Outcome]:
        return {place: self._outcome(call, scene, states) for place, call in calls.items()}

    def _outcome(self, call: Call, scene: Scene, states: States) -> Outcome:
        if call.fault:
            reply = _failed("unreadable", f"the call cannot be read: {call.fault}")
        elif call.name not in self.tools:
            reply = _failed("unknown_tool", f"no tool {call.name!r:.60}; {nearest(call.name, self.tools)}")
        else:
            tool = self.tools[call.name]
            asked = Asked(tool.target, tool.method, call.arguments or {}, scene, states.get(tool.target))
            reply = self._reply(asked, call.name)
            if reply.state is not None:
                states[tool.target] = reply.state
        return Outcome(call, reply.kind, reply.pieces)

    def _reply(self, asked: Asked, name: str) -> Reply:
        worker = self._free.get()
        try:
            return worker.ask(asked, seconds=self.seconds)
        except TimeoutError:
            return _failed("timed_out", f"{name} did not end within {self.seconds:g} seconds")
        except RuntimeError:  # WorkerError, or a module that could not be imported again
            return _failed("died", f"{name} ended its process")
        finally:
            self._free.put(worker)


def _failed(kind: str, why: str) -> Reply:
    return Reply(kind, (readable(why)[:WHY],))

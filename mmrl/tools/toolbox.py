"""Runs calls of tools, several at once, each in a process that is killed at its deadline."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mmrl.core.config import nearest
from mmrl.tools.calling import WHY
from mmrl.tools.calls import MOST_CALLS, Call, Outcome
from mmrl.tools.registry import Tool, tools_of
from mmrl.tools.scene import Scene, readable
from rewards.isolation.worker import Worker

PROCESSES = 4  # that run calls at the same time; each starts when it is first needed


class Toolbox:
    """The tools of these names; a call ends after `seconds`. Its processes end with this object, or by `close`."""

    def __init__(self, names: Sequence[str], seconds: float) -> None:
        self.tools: dict[str, Tool] = tools_of(names)
        self.seconds = seconds
        targets = [tool.target for tool in self.tools.values()]
        self._workers = [Worker("mmrl.tools.calling:called", first=targets) for _ in range(PROCESSES)]
        self._free: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(PROCESSES, "tools")

    def outcomes(self, turns: Sequence[tuple[Sequence[Call], Scene]]) -> list[list[Outcome]]:
        """The outcomes of the calls of several turns, each with what its model has seen. Of a turn MOST_CALLS run, and
        all others have one outcome together."""
        begun = [
            [self._threads.submit(self._outcome, call, scene) for call in calls[:MOST_CALLS]] for calls, scene in turns
        ]
        outcomes = [[future.result() for future in futures] for futures in begun]
        for (calls, _), came in zip(turns, outcomes, strict=True):
            if more := calls[MOST_CALLS:]:
                told = f"{len(more)} more calls of this turn are not answered, at most {MOST_CALLS} are"
                came.append(Outcome(more[0], "too_many", (told,)))
        return outcomes

    def close(self) -> None:
        """End the processes; a later call starts them again."""
        for worker in self._workers:
            worker.close()

    def _outcome(self, call: Call, scene: Scene) -> Outcome:
        def failed(kind: str, why: str) -> Outcome:
            return Outcome(call, kind, (readable(why)[:WHY],))

        if call.fault:
            return failed("unreadable", f"the call cannot be read: {call.fault}")
        if call.name not in self.tools:
            return failed("unknown_tool", f"no tool {call.name!r:.60}; {nearest(call.name, self.tools)}")
        worker = self._free.get()
        try:
            kind, pieces = worker.ask((self.tools[call.name].target, call.arguments, scene), seconds=self.seconds)
            return Outcome(call, kind, pieces)
        except TimeoutError:
            return failed("timed_out", f"{call.name} did not end within {self.seconds:g} seconds")
        except RuntimeError:  # WorkerDied, or a module that could not be imported again
            return failed("died", f"{call.name} ended its process")
        finally:
            self._free.put(worker)

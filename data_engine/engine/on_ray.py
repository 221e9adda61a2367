"""Per-sample stages over chunks on Ray Data: the same steps over the same chunks, so the same bytes.

On a cluster every machine must see the folder of the chunks and the media, as on a shared file system.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_engine.engine.chunks import Chunks, Ref
from data_engine.engine.map_stage import Step, chunk_keys, run_steps
from data_engine.engine.workers import Crew
from data_engine.media import deadline
from data_engine.ops import OPERATORS


class RayCrew(Crew):
    """A crew whose processes are Ray's. Where one dies or an operator fails, the chunk is run again here, sample by
    sample, to find the sample that caused it."""

    def __init__(self, chunks: Chunks, workers: int) -> None:
        super().__init__(Chunks(chunks.folder.absolute()), workers)
        self._started = False

    def mapped(self, steps: Sequence[Step], refs: Iterable[Ref]) -> Iterator[Ref]:
        """The result of the steps on each chunk, in order."""
        given = list(refs)
        waiting = [ref for ref in given if self.chunks.ref(chunk_keys(steps, ref.key)[-1]) is None]
        if waiting:
            self._run(steps, waiting)
        for ref in given:
            yield self.chunks.ref(chunk_keys(steps, ref.key)[-1]) or self.one_by_one(steps, ref)

    def close(self) -> None:
        """Leave Ray if it was started here."""
        super().close()
        if self._started:
            import ray

            ray.shutdown()

    def _run(self, steps: Sequence[Step], waiting: Sequence[Ref]) -> None:
        """Make the chunks; those on which an operator failed or a process died are left out.

        Otherwise Ray would retry such a chunk for ever, or give up all chunks.
        """
        import ray
        import ray.data

        if not ray.is_initialized():
            own = [str(Path.cwd())] if any(step.stage.target not in OPERATORS.values() for step in steps) else []
            path = os.pathsep.join(dict.fromkeys([*own, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))
            environment: Any = {"env_vars": {"PYTHONPATH": path}}  # it may be the only way to the user's operators
            ray.init(
                num_cpus=None if "RAY_ADDRESS" in os.environ else max(self.workers, 1),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=environment,
            )
            self._started = True
        chunks = self.chunks

        def made(row: dict[str, str]) -> dict[str, str]:
            deadline.spare_process()
            return {"key": run_steps(chunks, steps, row["key"]).key}

        with _settings(enable_progress_bars=False, max_errored_blocks=-1):
            rows = ray.data.from_items([{"key": ref.key} for ref in waiting], override_num_blocks=len(waiting))
            for _ in rows.map(made, max_retries=0).iter_rows():
                pass


@contextmanager
def _settings(**values: Any) -> Iterator[None]:
    """Change settings of Ray Data inside the block, and silence its messages."""
    from ray.data import DataContext

    context, talk = DataContext.get_current(), logging.getLogger("ray.data")
    before, level = {name: getattr(context, name) for name in values}, talk.level
    talk.setLevel(logging.CRITICAL)
    for name, value in values.items():
        setattr(context, name, value)
    try:
        yield
    finally:
        talk.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)

"""Per-sample stages over chunks on Ray Data: the same steps over the same chunks, so the same bytes.

On a cluster every machine must see the folder of the chunks and the media, as on a shared file system.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_engine.chunks import Chunks, Ref
from data_engine.steps import Step, keys, through
from data_engine.workers import Crew
from mmrl.config import InputError

logger = logging.getLogger(__name__)


class RayCrew(Crew):
    """A crew whose processes are those of Ray. Where one dies, the chunk is looked at here, sample by sample."""

    def __init__(self, chunks: Chunks, workers: int) -> None:
        super().__init__(Chunks(chunks.folder.absolute()), workers)
        self._started = False

    def mapped(self, steps: Sequence[Step], refs: Iterable[Ref]) -> Iterator[Ref]:
        """What the steps make of each chunk, in order."""
        given = list(refs)
        waiting = [ref for ref in given if self.chunks.ref(keys(steps, ref.key)[-1]) is None]
        if waiting:
            self._run(steps, waiting)
        for ref in given:
            yield self.chunks.ref(keys(steps, ref.key)[-1]) or self.one_by_one(steps, ref)

    def close(self) -> None:
        """Leave Ray if it was started here."""
        super().close()
        if self._started:
            import ray

            ray.shutdown()

    def _run(self, steps: Sequence[Step], waiting: Sequence[Ref]) -> None:
        """Make the chunks; those on which a process died are left out."""
        import ray
        import ray.data
        from ray.exceptions import RayError, RayTaskError

        if not ray.is_initialized():
            here = os.pathsep.join(
                dict.fromkeys([str(Path.cwd()), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
            )
            environment: Any = {"env_vars": {"PYTHONPATH": here}}  # operators of the user may be found there alone
            ray.init(
                num_cpus=None if "RAY_ADDRESS" in os.environ else self.workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=environment,
            )
            self._started = True
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        chunks = self.chunks

        def made(row: dict[str, str]) -> dict[str, str]:
            return {"key": through(chunks, steps, row["key"]).key}

        rows = ray.data.from_items([{"key": ref.key} for ref in waiting], override_num_blocks=len(waiting))
        try:
            for _ in rows.map(made).iter_rows():
                pass
        except RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, RuntimeError | InputError) else error) from None
        except RayError as error:
            logger.warning("Ray stopped (%s); what is left is done here, sample by sample", type(error).__name__)

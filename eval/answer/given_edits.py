"""`engine: given`: edited images that a model made before. They are among the media of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_engine.schema import Sample
from eval.generation import Draw, Generation


class GivenEdits:
    """Answers a draw with the name of its edited image, or with an empty text if there is none."""

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """The names of the edited images."""
        return [_named(draw.sample) for draw in draws]

    def cost(self, sample: Sample) -> int:
        """Nothing is computed, so all prompts cost the same."""
        return 1


def _named(sample: Sample) -> Generation:
    sizes = tuple((media.width or 0, media.height or 0) for media in sample.media)
    made = Path(sample.media[-1].path or "").name if len(sample.media) > 1 else ""
    return Generation(made, 0, False, sizes)

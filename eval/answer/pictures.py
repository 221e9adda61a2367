"""`engine: flow`: pictures that a policy makes. Their files lie in the folder of the run, named by their content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data_engine.schema import Sample
from eval.generation import Draw, Generation
from mmrl.core.media.kept import kept
from mmrl.core.media.pictures import as_media
from mmrl.core.vision import Size
from mmrl.model.flow.pictures import fitted, instruction_of, opened, resized, right_of, row_of, size_of, sources_of
from mmrl.model.flow.sampling import generator, sampled

if TYPE_CHECKING:
    from PIL import Image

    from eval.decode.pictures import GuidedPictures
    from mmrl.model.flow.policy import PicturePolicy
    from mmrl.model.flow.settings import PictureSettings

FOLDER = "made"  # of the pictures, in the folder of a run


@dataclass(frozen=True, slots=True)
class Made:
    """The frames of what was made (one of a picture), its costs, and perhaps a film of its steps."""

    shot: Sequence[Image.Image]
    spent: dict[str, float]
    film: Image.Image | None = None


class PictureGenerator:
    """Answers draws with a picture each. All that is random of a draw depends on the seed, its sample and its number.

    With `guided` a method of decoding makes the picture of each draw. The first pictures of samples whose ids are
    `filmed` have a film of their steps, unless they are guided.
    """

    def __init__(
        self,
        policy: PicturePolicy,
        settings: PictureSettings,
        out: Path,
        *,
        seed: int,
        guided: GuidedPictures | None = None,
        filmed: Collection[str] = (),
    ) -> None:
        self._policy, self._settings, self._out, self._seed, self._guided = policy, settings, out, seed, guided
        self._filmed = filmed

    def __call__(self, draws: Sequence[Draw]) -> list[Generation]:
        """One picture per draw; those of one task and size are made together."""
        alike: dict[tuple[str, Size], list[int]] = defaultdict(list)
        for place, draw in enumerate(draws):
            fits = fitted(self._size(draw.sample), self._policy.multiple, self._settings.pixels)
            alike[draw.sample.task, fits].append(place)
        made: dict[int, Generation] = {}
        for (_, size), places in alike.items():
            answers = self._made([draws[place] for place in places], size)
            for place, answer in zip(places, answers, strict=True):
                made[place] = self._kept(answer)
        return [made[place] for place in range(len(draws))]

    def cost(self, sample: Sample) -> int:
        """The pixels of the picture."""
        width, height = self._size(sample)
        return width * height

    def _size(self, sample: Sample) -> Size:
        """The size of the picture: that of the source, or of the right picture of a text, or that of the policy."""
        row = row_of(sample)
        like = [*sources_of(row), *right_of(row)][:1]
        return size_of(like[0]) if like else (self._policy.side, self._policy.side)

    def _made(self, draws: Sequence[Draw], size: Size) -> list[Made]:
        """What is made of each draw of a task, in `size` and brought to its own."""
        policy, settings = self._policy, self._settings
        rows = [row_of(draw.sample) for draw in draws]
        sources = [resized(source, size) for source in opened([media for row in rows for media in sources_of(row)])]
        condition = policy.condition([instruction_of(row) for row in rows], sources or None, size)
        keys = [(self._seed, draw.sample.id, draw.number) for draw in draws]
        sizes = [self._size(draw.sample) for draw in draws]
        times = policy.times(settings.steps, condition)
        if self._guided is not None:
            guided = self._guided(policy, condition, times, draws, keys, sizes)
            return [Made([picture], spent) for picture, spent in guided]
        streams = [generator("picture", *key) for key in keys]
        noise = policy.noise(condition, streams)
        path = sampled(policy, condition, noise, times, level=settings.noise, generator=streams)
        shots = zip(policy.shots(path.clean, condition), sizes, strict=True)
        shown = [[resized(frame, own) for frame in shot] for shot, own in shots]
        films = {
            place: policy.film(path.of(place), condition)
            for place, draw in enumerate(draws)
            if draw.sample.id in self._filmed and draw.number == 0
        }
        return [Made(shot, {}, films.get(place)) for place, shot in enumerate(shown)]

    def _kept(self, answer: Made) -> Generation:
        """The answer that is a picture; its files are on disk."""
        media = [self._policy.media(answer.shot), *([as_media(answer.film)] if answer.film else [])]
        made, *film = (kept(each, self._out, FOLDER) for each in media)
        return Generation("", 0, False, (answer.shot[0].size,), answer.spent, made=(made,), film=film)

"""How well a picture goes with a text, by optimal transport between them (PISCES, 2602.01624)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.core.media.image import load_image
from mmrl.core.messages import user_text
from rewards.base import Rollout, Verdict, abstain, unparsed
from rewards.heads.reward_model import Batch, ModelName

if TYPE_CHECKING:
    from PIL import Image

Share = Annotated[float, Field(gt=0, le=1)]


def transport(
    rollouts: Sequence[Rollout],
    *,
    model: ModelName,
    part: Literal["tokens", "distribution"] = "tokens",
    goal: str | None = None,
    real: str | None = None,
    mass: Share = 0.9,
    smoothing: Annotated[float, Field(gt=0)] = 0.1,
    place: Annotated[float, Field(ge=0)] = 0.2,
    batch: Batch = 16,
    device: str = "auto",
    dtype: str = "float32",
) -> list[Verdict]:
    """How well the last picture shows its text: the `goal`, else the prompt (PISCES, 2602.01624, for pictures).

    `model` is a BLIP checkpoint with a matching head, such as Salesforce/blip-itm-base-coco. The part `tokens` plans
    how the share `mass` of the text's tokens moves to the patches, at the cost 1 - cosine + `place` times the distance
    to where a token looks, with an entropy of weight `smoothing`. The model's attention to patches is multiplied by the
    plan, and the score is the matching head's probability. The part `distribution` carries the text's vector onto the
    pictures of `real`, a dataset directory of pictures with their texts, and the score is the cosine to the made one.
    The paper trains a network for that map; here it is the optimal one between Gaussians. The paper scores videos.

    >>> from rewards.heads.transport_plan import plan
    >>> plan([[0.1, 0.8, 0.6], [0.7, 0.2, 0.5]], mass=0.9).round(4).tolist()
    [[0.331, 0.0015, 0.1017], [0.0004, 0.3219, 0.1435]]
    """
    if (part == "distribution") != (real is not None):
        raise InputError(f"transport: part {part} with real {real!r}; `real` goes with part: distribution")
    from rewards.heads.transport_torch import Matching

    matching = Matching(model, device, dtype, part=part, real=real, mass=mass, smoothing=smoothing, place=place)
    verdicts: list[Verdict | None] = []
    shown: dict[str, list[tuple[int, Image.Image]]] = defaultdict(list)  # by text: a group shares its own
    for number, rollout in enumerate(rollouts):
        found = _shown(rollout, goal)
        if isinstance(found, Verdict):
            verdicts.append(found)
        else:
            verdicts.append(None)
            shown[found[0]].append((number, found[1]))
    for text, rows in shown.items():
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            scores = matching.scores([picture for _, picture in some], text)
            for (number, _), score in zip(some, scores, strict=True):
                verdicts[number] = Verdict(max(score, 0.0), f"{part} {score:.4f}")
    return [verdict for verdict in verdicts if verdict is not None]


def _shown(rollout: Rollout, goal: str | None) -> tuple[str, Image.Image] | Verdict:
    """(the text, the picture), or why there is nothing to score."""
    text = goal or user_text(rollout.prompt)
    if not text.strip():
        return abstain("no goal, and no text in the prompt")
    if not rollout.all_media:
        return unparsed("no picture was made")
    last = rollout.all_media[-1]
    if last.kind != "image":
        return abstain(f"a {last.kind}, not a picture")
    try:
        return text, load_image(last)
    except MediaError as error:
        return abstain(str(error))

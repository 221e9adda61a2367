"""A verifier of edits as the policy: what its own chain says of a picture, for training it on preferences (GCPO)."""

from __future__ import annotations

from collections.abc import Mapping

from rewards.base import Rollout, Scored, Verdict, gold, per_rollout, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judged.edits import parse_rrm


@per_rollout
def verifier_score(rollout: Rollout) -> Scored:
    """The chain's final score over 10, by Edit-RRM's parse contract; a chain that breaks it is unparsed.

    It says how good the verifier finds the edit, not how good the verifier is: the estimator `gcpo` compares it with
    the chains on the other side of the pair. A checklist of another length than the gold's `principles` is unparsed.

    >>> said = 'Red. [{"question": "Done?", "score": 1}] <score>7.5</score>'
    >>> [(verdict.score, verdict.kind) for verdict in verifier_score([Rollout(said), Rollout("<score>7.5</score>")])]
    [(0.75, 'scored'), (0.0, 'unparsed')]
    """
    principles = gold(rollout, "principles") if isinstance(rollout.answer, Mapping) else None
    try:
        found = parse_rrm(rollout.completion, len(principles) if isinstance(principles, list) else None)
    except Unreadable as error:
        return unparsed(str(error))
    return Verdict(found.score / 10, f"{found.score:g} of 10")

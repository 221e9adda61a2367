"""The policy as a verifier of edits: the score in its own chain, for training it on preferences (GCPO)."""

from __future__ import annotations

from collections.abc import Mapping

from rewards.base import Rollout, Scored, Verdict, gold, per_rollout, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judged.edits import parse_rrm


@per_rollout
def verifier_score(rollout: Rollout) -> Scored:
    """The final score, over 10, of a chain in which the policy itself verifies an edit (Edit-R1, 2604.27505).

    A chain that breaks the parse contract of Edit-RRM is unparsed, and so is a checklist of another length than the
    gold's `principles`. The score tells how good the policy finds the edit, not how good the policy is: the estimator
    `gcpo` compares it with the chains on the other side of the preference pair.

    >>> chain = 'Red. [{"question": "Done?", "score": 1}] <score>%s</score>'
    >>> said = [Rollout(text, {"principles": ["Done?"]}) for text in (chain % 7.5, chain % 10, "<score>9</score>")]
    >>> [(verdict.score, verdict.kind) for verdict in verifier_score(said)]
    [(0.75, 'scored'), (1.0, 'scored'), (0.0, 'unparsed')]
    """
    principles = gold(rollout, "principles") if isinstance(rollout.answer, Mapping) else None
    try:
        found = parse_rrm(rollout.answered, len(principles) if isinstance(principles, list) else None)
    except Unreadable as error:
        return unparsed(str(error))
    return Verdict(found.score / 10, f"{found.score:g} of 10")

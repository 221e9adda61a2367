"""Methods that build an answer piece by piece and choose each piece by a reward."""

from __future__ import annotations

from collections.abc import Sequence

from eval.decode.config import LookaheadSearch, PhaseWise
from eval.decode.policy import Ids, Policy
from eval.decode.side_by_side import Steps

BREAKS = ".!?;\n"  # the marks that end a phase
STEP = 32  # tokens generated at a time on the way to the end of a phase


def psrd(policy: Policy, spec: PhaseWise) -> Steps[Ids]:
    """Phase-wise self-reward decoding (arXiv 2604.17982, of which only the abstract was known: the details are ours).

    Hallucination starts where a phase starts. The first tokens of each phase are scored; if they score below the
    threshold, others are sampled and the best ones kept. The rest of a phase is decoded greedily.
    """
    ids: Ids = []
    while not policy.ended(ids):
        [greedy] = yield from policy.continued([ids], _room(policy, ids, spec.onset), 0.0)
        onset = _phase(policy, greedy)
        if spec.threshold > 0:
            onset = yield from _better_onset(policy, spec, ids, onset)
        ids = ids + onset
        phase = onset
        while not (policy.ended(ids) or _broken(policy, phase)):
            [more] = yield from policy.continued([ids], _room(policy, ids, STEP), 0.0)
            more = _phase(policy, more)
            ids, phase = ids + more, more
    return ids


def _better_onset(policy: Policy, spec: PhaseWise, ids: Ids, greedy: Ids) -> Steps[Ids]:
    """The greedy onset, or the best of it and sampled ones if it scores below the threshold."""
    [score] = yield from _onset_scores(policy, spec, ids, [greedy])
    policy.spent["phases"] += 1
    if score >= spec.threshold or spec.candidates == 1:
        return greedy
    policy.spent["interventions"] += 1
    room = _room(policy, ids, spec.onset)
    drawn = yield from policy.continued([ids] * (spec.candidates - 1), room, spec.temperature)
    others = [_phase(policy, onset) for onset in drawn]
    onsets, scores = [greedy, *others], [score, *(yield from _onset_scores(policy, spec, ids, others))]
    return onsets[scores.index(max(scores))]


def _onset_scores(policy: Policy, spec: PhaseWise, ids: Ids, onsets: Sequence[Ids]) -> Steps[list[float]]:
    """The reward of the answer with each onset. An empty onset, and one without a verdict, gets the threshold."""
    spoken = [onset for onset in onsets if policy.text(onset).strip()]
    rewards = iter((yield from policy.rewards([ids + onset for onset in spoken])) if spoken else [])
    scores = [next(rewards) if policy.text(onset).strip() else None for onset in onsets]
    return [spec.threshold if score is None else score for score in scores]


def _phase(policy: Policy, ids: Ids) -> Ids:
    """`ids` up to the first token that ends a phase."""
    for length in range(1, len(ids)):
        if _broken(policy, ids[:length]):
            return ids[:length]
    return ids


def _broken(policy: Policy, ids: Ids) -> bool:
    return any(mark in policy.text(ids) for mark in BREAKS)


def _room(policy: Policy, ids: Ids, wanted: int) -> int:
    return min(wanted, policy.limit - len(ids))


def deal(policy: Policy, spec: LookaheadSearch) -> Steps[Ids]:
    """DeAL (arXiv 2402.06147): the next token by its log-probability and by the reward of its greedy continuation."""
    ids: Ids = []
    while not policy.ended(ids):
        tokens = yield from policy.likeliest(ids, spec.candidates)
        starts = [[*ids, token] for token, _ in tokens]
        policy.spent["generated"] += len(tokens)
        ahead = yield from _ahead(policy, starts, spec.lookahead)
        rewards = yield from policy.rewards(ahead)
        chosen = deal_step([log_prob for _, log_prob in tokens], rewards, spec.scale)
        ids = ahead[chosen] if spec.commit == "segment" else starts[chosen]
    return ids


def deal_step(log_probs: Sequence[float], rewards: Sequence[float | None], scale: float) -> int:
    """The candidate of largest log-probability + scale x reward; among ties the likeliest. No verdict counts as 0.

    >>> [deal_step([-0.5, -1.2, -2.0], [0.1, 0.7, 0.9], scale) for scale in (0, 1, 1.2, 3)]
    [0, 0, 1, 1]
    """
    costs = [log_prob + scale * (reward or 0.0) for log_prob, reward in zip(log_probs, rewards, strict=True)]
    return max(range(len(costs)), key=lambda at: (costs[at], log_probs[at]))


def _ahead(policy: Policy, starts: Sequence[Ids], length: int) -> Steps[list[Ids]]:
    """Each start with its greedy continuation of up to `length` tokens; an ended one stays as it is."""
    open_ = [at for at, start in enumerate(starts) if not policy.ended(start)]
    ahead = list(starts)
    if open_ and length:
        room = _room(policy, starts[0], length)
        continuations = yield from policy.continued([starts[at] for at in open_], room, 0.0)
        for at, more in zip(open_, continuations, strict=True):
            ahead[at] = starts[at] + more
    return ahead

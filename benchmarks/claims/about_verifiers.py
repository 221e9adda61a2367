"""A claim about verifiers: GCPO, which compares chains across the sides of a pair, against GRPO on each side alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from eval.records import read_records
from mmrl.train.stages import run
from mmrl.verifier.__main__ import evaluated, place, prepare, stage
from mmrl.verifier.accuracy import pair_verdicts
from rewards.base import Rollout, Verdict, per_rollout
from rewards.judged.edit_chain import verifier_score

DECODING = "mean of 8"
GRPO = ["rewards.score.fn=benchmarks.claims.about_verifiers:agreement", "advantages={name: grpo}"]


@per_rollout
def agreement(rollout: Rollout) -> Verdict:
    """How far a chain agrees with people without a look at the other side: the score of a preferred edit, and what the
    score of the other lacks to 1."""
    [verdict] = verifier_score([rollout])
    if verdict.kind != "scored" or verdict.score is None or rollout.meta["preferred"]:
        return verdict
    return Verdict(1 - verdict.score, verdict.why)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierClaim:
    """The verifier of `mmrl.verifier`, taught once by SFT and then, seed by seed, by GCPO and by GRPO."""

    paper: str = "Edit-R1 (2604.27505)"
    claim: str = "chains compared across the two sides of a pair teach a verifier more than each side's own label"
    setting: str = "a tiny verifier of edits; pairs judged as people do by the mean of 8 chains, GCPO - GRPO"
    supervised: int = 500
    steps: int = 60
    held_out: int = 200

    def quick(self) -> VerifierClaim:
        """The same with few steps and pairs."""
        return replace(self, supervised=3, steps=2, held_out=4)

    def differences(self, seeds: Sequence[int], out: Path) -> list[float]:
        """GCPO minus GRPO, seed by seed; the data and the first stage are of seed 0."""
        out = out / "verifier"
        prepare(out, seed=0, chains=3000, pairs=400, held_out=self.held_out)
        places = [f"data={out / 'data'}", f"model={out / 'random'}", f"output={out / 'sft'}"]
        warm = run(stage("sft.yaml", [*places, f"sft.max_steps={self.supervised}"]))
        return [self._accuracy(out, warm, seed, []) - self._accuracy(out, warm, seed, GRPO) for seed in seeds]

    def _accuracy(self, out: Path, warm: Path, seed: int, changes: list[str]) -> float:
        """The share of held-out pairs that are judged as people do."""
        own = out / f"{'grpo' if changes else 'gcpo'}-{self.steps}-{seed}"
        given = [f"data={out / 'data'}", f"model={warm}", f"output={own / 'train'}", f"seed={seed}", *changes]
        config = stage("gcpo.yaml", [*given, f"grpo.max_steps={self.steps}"])
        evaluated(config, run(config), own, "after", DECODING)
        return fmean(pair_verdicts(read_records(place(own, "after", DECODING)), "score").values())


VERIFIERS: dict[str, VerifierClaim] = {"gcpo": VerifierClaim()}

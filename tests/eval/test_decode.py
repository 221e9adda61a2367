"""Guided decoding: the published numbers, a toy whose target can be summed by hand, and runs with a tiny model."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from data_engine.schema import Sample
from eval.answer.local import LocalGenerator
from eval.decode import GuidedGenerator
from eval.decode.choosing import best_of_n, self_consistency
from eval.decode.config import BestOfN, BlockTree, LookaheadSearch, MonteCarlo, PhaseWise, SelfConsistency
from eval.decode.particles import Population, effective_size, evolved, normalised, smc
from eval.decode.policy import ModelPolicy, SuiteGuide, last_phase
from eval.decode.search import deal, psrd
from eval.decode.side_by_side import Steps
from eval.decode.tree import block_tree
from eval.generation import Draw, Sampling
from eval.pass_at_k import best_of_n_kl_bound, majority
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, VisionBudget, apply_budget
from mmrl.model.sampling import row_generator
from mmrl.model.tiny_twins import tiny_model
from tests.conftest import TEXTS

REWARDS: Any = {"short": {"fn": "length_window", "args": {"low": 1, "high": 4}}}
FORM: Any = {"form": {"fn": "think_format"}}
LETTERS: Any = {"letters": {"fn": "tests.support.training:letters"}}
FIRST, SECOND = [0.7, 0.3], [[0.4, 0.6], [0.8, 0.2]]  # the toy of two binary tokens
PSI = {(0,): 1.0, (1,): 2.0, (0, 0): 1.0, (0, 1): 3.0, (1, 0): 1.0, (1, 1): 8.0}  # cumulative: psi1 * psi2


def result(steps: Steps[Any]) -> Any:
    """The result of a decoding method that never asks a model."""
    with pytest.raises(StopIteration) as stop:
        next(steps)
    return stop.value.value


class Toy:
    """Two binary tokens with known probabilities; the reward of a prefix is its log potential."""

    opened = ""

    def __init__(self, seed: int) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.limit, self.temperature, self.seed = 2, 1.0, seed
        self._random = row_generator("toy", seed)

    def continued(self, prefixes: Sequence[list[int]], length: int, temperature: float) -> Steps[list[list[int]]]:
        yield from ()
        return [self._one(prefix, length, temperature) for prefix in prefixes]

    def _one(self, prefix: list[int], length: int, temperature: float) -> list[int]:
        ids = list(prefix)
        while len(ids) < min(2, len(prefix) + length):
            p_BV = FIRST if not ids else SECOND[ids[0]]
            right = float(p_BV[1] > 0.5) if temperature == 0 else p_BV[1]
            ids.append(int(self._random.random() < right))
        return ids[len(prefix) :]

    def likeliest(self, prefix: list[int], count: int) -> Steps[list[tuple[int, float]]]:
        yield from ()
        p_V = FIRST if not prefix else SECOND[prefix[0]]
        return sorted(((t, math.log(p)) for t, p in enumerate(p_V)), key=lambda pair: -pair[1])[:count]

    def rewards(self, prefixes: Sequence[list[int]]) -> Steps[list[float | None]]:
        yield from ()
        self.spent["reward_calls"] += len(prefixes)
        return [math.log(PSI[tuple(prefix)]) for prefix in prefixes]

    def ended(self, ids: list[int]) -> bool:
        return len(ids) == 2

    def text(self, ids: list[int]) -> str:
        return "".join("ab"[token] for token in ids)

    def uniform(self, *place: int | str) -> float:
        return float(row_generator("toy", self.seed, *place).random())


def particles(**settings: Any) -> MonteCarlo:
    return MonteCarlo(method="smc", rewards=REWARDS, **{"particles": 4000, "block": 1, "scale": 1.0, **settings})


@pytest.mark.parametrize("settings", [{}, {"lookahead": 2}, {"ess": 0.0}, {"ess": 1.0}])
def test_particles_sample_the_tilted_target(settings: dict[str, Any]) -> None:
    population = result(evolved(Toy(0), particles(**settings)))
    mass: Counter[tuple[int, ...]] = Counter()
    for ids, weight in zip(population.particles, normalised(population.log_weights), strict=True):
        mass[tuple(ids)] += weight  # pyright: ignore[reportArgumentType]
    joint = {(0, 0): 0.28 * 1, (0, 1): 0.42 * 3, (1, 0): 0.24 * 1, (1, 1): 0.06 * 8}
    for ids, unnormalised in joint.items():
        assert mass[ids] == pytest.approx(unnormalised / sum(joint.values()), abs=0.03)


def shares(population: Population) -> dict[str, float]:
    """The share of each answer of the toy among particles of equal weight."""
    counts = Counter(map(tuple, population.particles))
    return {"".join(map(str, ids)): counts[ids] / len(population.particles) for ids in ((0, 0), (0, 1), (1, 0), (1, 1))}


@pytest.mark.parametrize("settings", [{"ess": 1.0}, {"ess": 1.0, "lookahead": 2}, {"ess": 1.0, "levels": False}])
def test_moves_of_all_particles_keep_the_target(settings: dict[str, Any]) -> None:
    spec = particles(particles=20_000, moves=3, **settings)
    toy = Toy(3) if spec.levels else StepByStep(3)
    population = result(evolved(toy, spec))
    expected = {"00": 0.28, "01": 1.26, "10": 0.24, "11": 0.48}  # p x psi, of which the sum is 2.26
    for ids, share in shares(population).items():
        assert share == pytest.approx(expected[ids] / 2.26, abs=4 * math.sqrt(0.25 / 20_000))
    assert 0.4 < toy.spent["moved"] / (2 * 3 * 20_000) < 0.9


class StepByStep(Toy):
    """The same potentials block by block: 1 or 2 of the first token, then what is left of both."""

    def rewards(self, prefixes: Sequence[list[int]]) -> Steps[list[float | None]]:
        yield from ()
        return [math.log(PSI[tuple(ids)] / PSI.get(tuple(ids[:-1]), 1.0)) for ids in prefixes]


@pytest.mark.parametrize(
    ("settings", "answer", "share"), [({"below": 0.9}, "01", 0.711), ({"moved": "duplicates"}, "11", 0.116)]
)
def test_moves_of_some_particles_leave_the_target(settings: dict[str, Any], answer: str, share: float) -> None:
    """The target is 0.558 and 0.212. Particles of low reward drift to high ones, and copies, whose reward is high, to
    low ones."""
    population = result(evolved(Toy(3), particles(particles=20_000, ess=1.0, moves=3, **settings)))
    assert shares(population)[answer] == pytest.approx(share, abs=0.01)


def test_a_tree_draws_the_tilted_target_and_its_best_answer_is_the_best() -> None:
    tree = {"answers": 60, "block": 1, "sharpness": 1.0, "rewards": REWARDS}
    drawn = [result(block_tree(Toy(seed), BlockTree(method="tree", **tree))) for seed in range(200)]
    expected = {"00": 0.28, "01": 1.26, "10": 0.24, "11": 0.48}  # p x psi, of which the sum is 2.26
    counts = Counter("".join(map(str, ids)) for ids in drawn)
    for ids, share in expected.items():
        assert counts[ids] / 200 == pytest.approx(share / 2.26, abs=0.12)
    assert result(block_tree(Toy(0), BlockTree(method="tree", best=True, **tree))) == [1, 1]
    toy = Toy(1)
    result(block_tree(toy, BlockTree(method="tree", **{**tree, "answers": 3})))
    assert toy.spent["reward_calls"] <= 3


def test_steps_multiply_and_levels_telescope() -> None:
    first, second = [0.1, 0.9, 0.4], [0.8, 0.2, 0.6]
    steps = normalised([4 * (a + b) for a, b in zip(first, second, strict=True)])
    levels = normalised([4 * b for b in second])
    assert steps == pytest.approx([0.2119827, 0.4717762, 0.3162411], abs=1e-6)
    assert levels == pytest.approx([0.6493309, 0.0589060, 0.2917632], abs=1e-6)
    assert effective_size(steps) == pytest.approx(2.7209560)
    assert effective_size(levels) == pytest.approx(1.9599149)


def test_without_a_reward_scale_nothing_is_resampled() -> None:
    population = result(evolved(Toy(1), particles(particles=8, scale=0.0)))
    assert all(row == list(range(8)) for row in population.ancestors)
    assert population.ess == pytest.approx([8.0, 8.0])


def test_the_best_of_many_is_the_best() -> None:
    assert result(best_of_n(Toy(0), BestOfN(method="best_of_n", n=200, rewards=REWARDS))) == [1, 1]
    assert result(smc(Toy(0), particles(particles=200))) == [1, 1]


def test_soft_best_of_n_has_the_published_law() -> None:
    counts = Counter(
        tuple(result(best_of_n(Toy(seed), BestOfN(method="best_of_n", n=2, soft=1.0, rewards=REWARDS))))
        for seed in range(3000)
    )
    p, psi = {(0, 0): 0.28, (0, 1): 0.42, (1, 0): 0.24, (1, 1): 0.06}, PSI
    law = {y: sum(2 * p[y] * p[z] * psi[y] / (psi[y] + psi[z]) for z in p) for y in p}
    for y in p:
        assert counts[y] / 3000 == pytest.approx(law[y], abs=0.03)


def test_the_bound_of_best_of_n() -> None:
    bounds = [best_of_n_kl_bound(n) for n in (1, 2, 4, 16, 64)]
    assert bounds == pytest.approx([0, 0.1931472, 0.6362944, 1.8350887, 3.1745081], abs=1e-6)


def test_majorities() -> None:
    assert majority([None, "a", "B", " b. "]) == (2, 0.5)
    assert majority(["a", "b"], [0.1, 0.9]) == (1, 0.5)
    assert majority([None, None]) == (0, 0.0)
    assert result(self_consistency(Toy(0), SelfConsistency(method="self_consistency", n=300))) == [0, 1]


def test_deal_without_a_scale_is_greedy_and_with_one_follows_the_reward() -> None:
    def answer(scale: float, commit: Any = "token") -> list[int]:
        spec = LookaheadSearch(method="deal", candidates=2, lookahead=2, scale=scale, commit=commit, rewards=REWARDS)
        return result(deal(Toy(0), spec))

    assert answer(0.0) == [0, 1]
    # 0 leads to 01: log .7 + 5 log 3; 1 leads to 10 (greedily): log .3; so only the second token can be bent
    assert answer(5.0) == answer(5.0, "segment") == [0, 1]


@pytest.fixture(scope="module")
def plain(budget: VisionBudget) -> LocalGenerator:
    model, processor = tiny_model("qwen2_5_vl", [*TEXTS, "yes. no. Yes No"])
    generator = torch.Generator().manual_seed(0)
    model.lm_head.weight = torch.nn.Parameter(0.3 * torch.randn(model.lm_head.weight.shape, generator=generator))
    apply_budget(processor, budget)
    return LocalGenerator(model, processor, budget=budget, sampling=Sampling(do_sample=True, max_new_tokens=8))


def greedy(plain: LocalGenerator) -> LocalGenerator:
    sampling = Sampling(max_new_tokens=8)
    return LocalGenerator(plain.model, plain.processor, budget=plain.budget, sampling=sampling)


METHODS: list[Any] = [
    BestOfN(method="best_of_n", n=3, rewards=FORM),
    SelfConsistency(method="self_consistency", n=3),
    PhaseWise(method="psrd", onset=3, candidates=2, threshold=1.0),
    LookaheadSearch(method="deal", candidates=2, lookahead=2, rewards=FORM),
    MonteCarlo(method="smc", particles=2, block=4, lookahead=1, rewards=FORM),
    BlockTree(method="tree", answers=3, block=3, rewards=LETTERS),
    MonteCarlo(method="smc", particles=2, block=3, scale=100.0, ess=1.0, moves=2, rewards=LETTERS),
]


@pytest.mark.parametrize("spec", METHODS, ids=lambda spec: spec.method)
def test_every_method_answers_mixed_media_the_same_way_twice(
    plain: LocalGenerator, mixed_samples: list[Sample], spec: Any
) -> None:
    draws = [Draw(mixed_samples[at]) for at in (0, 1, 4)]
    first, again = (GuidedGenerator(plain, spec, CoordinateSpace.resized)(draws) for _ in range(2))
    assert first == again
    assert all(0 < answer.tokens <= 8 and answer.spent["generated"] >= answer.tokens for answer in first)
    if isinstance(spec, MonteCarlo) and spec.moves:
        assert sum(answer.spent["resampled"] for answer in first) > 0
        assert sum(answer.spent.get("moved", 0) for answer in first) > 0


@pytest.mark.parametrize("spec", METHODS, ids=lambda spec: spec.method)
def test_draws_side_by_side_answer_as_alone(
    plain: LocalGenerator, mixed_samples: list[Sample], spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws, forwards = [Draw(mixed_samples[at], 1) for at in (0, 1, 4)], Counter[str]()
    generate = plain.model.generate

    def counting(**inputs: Any) -> Any:
        forwards[where] += 1
        assert len(inputs["input_ids"]) <= 4
        return generate(**inputs)

    monkeypatch.setattr(plain.model, "generate", counting)
    where = "alone"
    alone = [GuidedGenerator(plain, spec, CoordinateSpace.resized, size=4)([draw])[0] for draw in draws]
    where = "together"
    assert GuidedGenerator(plain, spec, CoordinateSpace.resized, size=4)(draws) == alone
    assert forwards["together"] <= forwards["alone"]
    assert forwards["together"] < forwards["alone"] or spec.method in ("best_of_n", "self_consistency")


def test_a_draw_that_fails_and_a_model_that_fails_stop_the_batch(
    plain: LocalGenerator, mixed_samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards: Any = {"right": {"fn": "yesno_match"}}
    spec = BestOfN(method="best_of_n", n=2, rewards=rewards, gold=True)
    with pytest.raises(InputError, match="no reward has a verdict on the task text"):
        GuidedGenerator(plain, spec, CoordinateSpace.resized)([Draw(mixed_samples[at]) for at in (0, 4)])

    def failing(**inputs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(plain.model, "generate", failing)
    with pytest.raises(MemoryError):
        GuidedGenerator(plain, METHODS[0], CoordinateSpace.resized)([Draw(mixed_samples[at]) for at in (0, 4)])


@pytest.mark.parametrize(
    "spec",
    [
        PhaseWise(method="psrd", onset=3, threshold=0.0),
        LookaheadSearch(method="deal", candidates=2, lookahead=2, scale=0.0, rewards=FORM),
    ],
    ids=lambda spec: spec.method,
)
def test_a_method_that_never_intervenes_is_greedy(
    plain: LocalGenerator, mixed_samples: list[Sample], spec: Any
) -> None:
    draws = [Draw(sample) for sample in mixed_samples]
    guided = GuidedGenerator(greedy(plain), spec, CoordinateSpace.resized)(draws)
    assert [answer.response for answer in guided] == [answer.response for answer in greedy(plain)(draws)]


def test_no_more_tokens_are_likeliest_than_there_are(plain: LocalGenerator, mixed_samples: list[Sample]) -> None:
    steps = ModelPolicy(plain, Draw(mixed_samples[0]), None).likeliest([], 10**6)
    next(steps)
    with pytest.raises(StopIteration) as stop:
        steps.send([torch.tensor([0.1, 0.9, 0.5])])
    assert [token for token, _ in stop.value.value] == [1, 2, 0]


def test_the_gold_answer_is_shown_only_when_asked_for(plain: LocalGenerator, mixed_samples: list[Sample]) -> None:
    draw = Draw(mixed_samples[4])
    rewards: Any = {"right": {"fn": "yesno_match"}}
    with pytest.raises(InputError, match=r"no reward has a verdict on the task yesno; .* need gold: true"):
        GuidedGenerator(plain, BestOfN(method="best_of_n", rewards=rewards), CoordinateSpace.resized)([draw])
    spec = BestOfN(method="best_of_n", n=2, rewards=rewards, gold=True)
    assert GuidedGenerator(plain, spec, CoordinateSpace.resized)([draw])[0].spent["kl_bound"] > 0.19


def test_rewards_that_guide_know_how_the_prompt_has_begun_the_answer(mixed_samples: list[Sample]) -> None:
    guide = SuiteGuide(BestOfN(method="best_of_n", rewards=FORM), CoordinateSpace.resized)
    said = ["I see.</think><answer>yes</answer>"]
    assert [guide.scores(Draw(mixed_samples[4]), (), said, begun) for begun in ("<think>", "")] == [[1.0], [0.0]]


def test_an_answer_of_marks_alone_is_asked_about_as_it_is() -> None:
    assert last_phase("A dog. It runs!") == "It runs"
    assert last_phase("...") == "..."


class Phases(Toy):
    """One token a letter; the first answer to any prefix is the greedy `aa`, the others are `ab` and `bb`."""

    def __init__(self, scores: dict[str, float]) -> None:
        super().__init__(0)
        self.scores, self.limit = scores, 2

    def continued(self, prefixes: Sequence[list[int]], length: int, temperature: float) -> Steps[list[list[int]]]:
        yield from ()
        return [[0, 0]] if temperature == 0 else [[0, 1], [1, 1]][: len(prefixes)]

    def rewards(self, prefixes: Sequence[list[int]]) -> Steps[list[float | None]]:
        yield from ()
        return [self.scores[self.text(prefix)] for prefix in prefixes]


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [1, 1]), (0.15, [0, 0])])
def test_psrd_takes_the_best_onset_where_the_greedy_one_scores_low(threshold: float, expected: list[int]) -> None:
    policy = Phases({"aa": 0.20, "ab": 0.55, "bb": 0.70})
    assert result(psrd(policy, PhaseWise(method="psrd", candidates=3, threshold=threshold))) == expected
    assert policy.spent["interventions"] == (threshold > 0.2)

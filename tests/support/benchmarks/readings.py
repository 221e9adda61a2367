"""How the rules of every benchmark read answers, noted with its version: other readings are another version.

python -m tests.support.benchmarks.readings    # notes the readings of benchmarks that are new or have a new version
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from eval.benchmarks import BENCHMARKS
from tests.support.benchmarks.answers import FIXTURES, answered, benchmark, gold, text_of

NOTED = Path(__file__).parents[2] / "data" / "benchmark_readings.json"
FORMS = (  # of the right answer
    *("{}", "<answer>{}</answer>", "The answer is {}.", "**{}**", "\\boxed{{{}}}", "“{}”", "Answer: {}\nI am sure."),
    *("It is not {}", "{} or another", "I first took {}, but no.", "{} (confidence: 90%)", "$\\text{{{}}}$"),
)
TEXTS = (  # of a model that says the same to every question
    *("A is correct, B is not.", "I choose A because B is wrong", "Answer: a cat", "Option b", "(C)", "答案是B"),
    *("\\boxed{12}. The answer is D.", "\\boxed{1} and \\boxed{2}", "x=2 and y=3", "anything but B", "I doubt A"),
    *("1,200", "1.2M", "three and a half", "12 cm^2", "1.6 \\times 10^{-19}", "2.5 x 10^3", "1/2", "50%", "minus 3"),
    *("two dozen", "12 (not 13)", "3 or 4", "at least 3", "3 out of 10", "1 hour 30 minutes", "it’s"),
    *("Yes, no doubt.", "There is no dog.", "Nope", "[10, 10, 20, 20]", '{"box_2d": [10, 10, 30, 20]}'),
    *("[0.1, 0.1, 1, 1]", '{"bbox_xywh": [10, 10, 20, 20]}', "[x, y, w, h] = [10, 10, 20, 20]", "(15, 15)"),
    *("0 to 1", "1m12s to 1m30s", "frames 0 to 1", "a dog and a frisbee"),
)


def reading_of(name: str, folder: Path) -> str | None:
    """A digest of what the rules of a benchmark make of many answers to its fixture; None where only judges score."""
    if not BENCHMARKS[name].scorers:
        return None
    samples = benchmark(name, folder).load()
    pairs = [(sample, text) for sample in samples for text in [*TEXTS, *(form.format(gold(sample)) for form in FORMS)]]
    replies = iter(text for _, text in pairs)
    records = answered(name, [sample for sample, _ in pairs], lambda _: next(replies))
    read = [[text_of(sample) for sample in samples], [[record.scores, record.kinds] for record in records]]
    rounded = json.loads(json.dumps(read), parse_float=lambda text: round(float(text), 3))
    return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    """Note the readings; a benchmark that reads otherwise under the version that it had is left as it is noted."""
    noted = json.loads(NOTED.read_text()) if NOTED.is_file() else {}
    for name in sorted(FIXTURES):
        with tempfile.TemporaryDirectory() as folder:
            now = [BENCHMARKS[name].version, reading_of(name, Path(folder))]
        if name in noted and noted[name] != now and noted[name][0] == now[0]:
            print(f"{name} reads answers otherwise than version {now[0]} did: raise its version")
            continue
        noted[name] = now
    lines = (f"{json.dumps(name)}: {json.dumps(noted[name])}" for name in sorted(noted))
    NOTED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

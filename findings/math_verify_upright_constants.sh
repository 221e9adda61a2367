#!/bin/sh
# math-verify 0.9.0: an upright e or i ends the expression, and what was read so far is taken for the whole.
#
# Many textbooks, Chinese ones above all, write Euler's number and the imaginary unit upright: \mathrm{e}, \mathrm{i}.
# They are taken for units and cut off. The gold 1 - 1/e is then 1, and 2i is 2: the answers 1 and 2 are right, the
# right answers are wrong. Nothing tells that a part of the gold was dropped, since each gold equals itself.
#
# Seen: all four lines below.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0 latex2sympy2_extended==1.11.0
"$folder/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

CASES = [
    (r"1-\frac{1}{\mathrm{e}}", "1"),
    (r"1-\frac{1}{\mathrm{e}}", r"1-\frac{1}{e}"),
    (r"2\mathrm{i}", "2"),
    (r"2\mathrm{i}", "2i"),
]
seen = []
for gold, answer in CASES:
    read = parse(f"${gold}$")
    seen.append(verify(read, parse(f"${answer}$")))
    print(f"gold {gold} is read as {read[0]}; the answer {answer} is", "right" if seen[-1] else "wrong")
assert seen == [True, False, True, False], "the behaviour has changed"
PYTHON

#!/bin/sh
# math-verify 0.9.0: two small numbers are equal, whatever they are.
#
# `verify` rounds floats to 6 places by default, and evaluates differences with small ones cut off. Numbers below about
# 5e-7 are therefore all equal: the charge of an electron equals Planck's constant. A reward built on it pays for wrong
# answers in physics. Scientific notation with an e is read as Euler's number: 2.5e3 is 2.5 times e times 3.
#
# Seen: all three lines below.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0 latex2sympy2_extended==1.11.0
"$folder/venv/bin/python" - <<'PYTHON'
from math_verify import parse, verify

def same(gold: str, answer: str) -> bool:
    return verify(parse(f"${gold}$"), parse(f"${answer}$"))

seen = [
    same(r"1.6\times10^{-19}", r"6.6\times10^{-34}"),
    same("0.00000017", "0.00000042"),
    same("2500", "2.5e3"),
]
print("1.6e-19 equals 6.6e-34:", seen[0], "| 1.7e-7 equals 4.2e-7:", seen[1], "| 2500 equals 2.5e3:", seen[2])
assert seen == [True, True, False], "the behaviour has changed"
PYTHON

#!/bin/sh
# mathruler 0.1.0: any length or time is equal to any other with the same number, and a unit asked for is always right.
#
# Reward functions for geometry and for questions about pictures call `grade_answer` (verl's geo3k, EasyR1). Units are
# cut out of both answers before they are compared, so "5 cm" is "5". But the unit itself is then no part of the answer:
# five feet are five miles. Where the answer is nothing but a unit or a time, both sides are empty, and equal. Large
# numbers in words are wrong against digits: "5 million" becomes a product, and a whole number is compared to the letter.
#
# Seen: each of the first four pairs is equal, the last is not.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mathruler==0.1.0 sympy==1.14.0 pylatexenc==2.10 tqdm==4.67.1
cat > "$folder/ask.py" <<'PYTHON'
from mathruler.grader import grade_answer

for said, gold in (
    ("5 miles", "5 feet"),
    ("3 days", "3 years"),
    ("mile", "inch"),
    ("month", "second"),
    ("5 million", "5000000"),
):
    print(f"{said} for {gold}:", grade_answer(said, gold))
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
5 miles for 5 feet: True
3 days for 3 years: True
mile for inch: True
month for second: True
5 million for 5000000: False
SEEN

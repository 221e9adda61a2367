#!/bin/sh
# math-verify 0.9.0: a gold without dollar signs is cut to its first number, so the wrong answer is paid for.
#
# Reward functions of trainers hand the dataset's gold to `parse` as it is, and golds of geometry are often stored bare:
# 2\sqrt{3}, 3\pi. A bare fraction is read whole, which makes a glance at the data look well. A bare root or a multiple
# of pi is read as the number before it. The answer 2 is then right and 2\sqrt{3} is wrong. Golds with nothing before the
# root are not read at all, and trainers skip them.
#
# Seen: for each gold what is read of it, whether itself is right, and whether its first number is.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet math-verify==0.9.0 latex2sympy2_extended==1.11.0
cat > "$folder/ask.py" <<'PYTHON'
from math_verify import parse, verify

for gold, number in ((r"2\sqrt{3}", "2"), (r"3\pi", "3"), (r"\frac{3}{4}", "3"), (r"\sqrt{5}", "5")):
    read = parse(gold)
    print(gold, read, verify(read, parse(f"${gold}$")), verify(read, parse(f"${number}$")))
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
2\sqrt{3} [2, '2'] False True
3\pi [3, '3'] False True
\frac{3}{4} [3/4, '\\frac{3}{4}'] True False
\sqrt{5} [] False False
SEEN

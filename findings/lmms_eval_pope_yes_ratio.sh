#!/bin/sh
# lmms-eval 0.7.3: the yes ratio of POPE is that of the gold answers, whatever the model says.
#
# POPE reports beside its F1 the share of questions that the model answers by yes: a model that sees objects which are
# not there says yes too often. Half of POPE's gold answers are yes. The task's aggregation counts the gold answers, so
# the figure is 0.5 for every model. Its recall leaves out answers that are neither word: they are no misses.
#
# Seen, for four questions, two of them with the gold yes: a model that always says yes has a yes ratio of 0.5, one that
# always says no has 0.5, and one that says yes once and then speaks of the dog has a recall of 1.0, not 0.5.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps lmms-eval==0.7.3
cat > "$folder/ask.py" <<'PYTHON'
import glob
import runpy
import sys

pope = runpy.run_path(glob.glob(f"{sys.prefix}/lib/python3*/site-packages/lmms_eval/tasks/pope/utils.py")[0])
GOLD = ("yes", "yes", "no", "no")


def rows(answers, metric):
    pairs = enumerate(zip(GOLD, answers, strict=True))
    return [pope["pope_process_results"]({"answer": gold, "question_id": n}, [said])[metric] for n, (gold, said) in pairs]


def ratio(answers):
    return pope["pope_aggregate_yes_ratio"](rows(answers, "pope_yes_ratio"))


print("always yes", ratio(["Yes"] * 4))
print("always no", ratio(["No"] * 4))
print("recall", pope["pope_aggregate_recall"](rows(["Yes", "There is a dog.", "No", "No"], "pope_recall")))
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" > "$folder/seen"
cat "$folder/seen"
printf 'always yes 0.5\nalways no 0.5\nrecall 1.0\n' | diff - "$folder/seen" || { echo "the behaviour has changed"; exit 1; }

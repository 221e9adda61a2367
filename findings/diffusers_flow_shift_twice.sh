#!/bin/sh
# diffusers 0.42.1: FlowMatchEulerDiscreteScheduler shifts its smallest noise level twice, and the levels it is given too.
#
# Stable Diffusion 3 shifts noise levels s to 3 s / (1 + 2 s). At its making the scheduler keeps the shifted levels, from
# 1.0 to 0.0030, and their ends. `set_timesteps` spreads its steps between these ends, which are shifted already, and
# shifts them all. So the last step stands at 0.0089, three times the noise that the model was trained down to, and the
# thousand steps of training are not the thousand that one gets back. Levels of one's own are shifted as well: a
# pipeline that is called with the `sigmas` of the run before makes other pictures. Trainers that compare a step's
# log-probability with the pipeline's have to repeat this.
#
# Seen: the levels at the end of 1000 steps as made and as set, of ten steps beside the formula, and 0.5 given to it.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.23.0
cat > "$folder/ask.py" <<'PYTHON'
import torch
from diffusers import FlowMatchEulerDiscreteScheduler


def shown(levels):
    return [round(float(level), 4) for level in levels]


scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
print("made:", shown(scheduler.sigmas[-3:]))
scheduler.set_timesteps(1000)
print("set:", shown(scheduler.sigmas[-4:-1]))
scheduler.set_timesteps(10)
plain = torch.linspace(1, 0.001, 10)
print("ten:", shown(scheduler.sigmas[-3:-1]), "formula:", shown((3 * plain / (1 + 2 * plain))[-2:]))
scheduler.set_timesteps(sigmas=[1.0, 0.5])
print("given 0.5:", shown(scheduler.sigmas[1:2]))
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" 2>/dev/null > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
made: [0.0089, 0.006, 0.003]
set: [0.0148, 0.0119, 0.0089]
ten: [0.278, 0.0089] formula: [0.2745, 0.003]
given 0.5: [0.75]
SEEN

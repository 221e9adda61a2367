"""`python -m eval` is `mmrl eval`."""

import sys

from mmrl.cli import VERBS, run

if __name__ == "__main__":
    run("python -m eval", VERBS["eval"][0], sys.argv[1:])

"""`python -m data_engine` is `mmrl data`."""

import sys

from mmrl.cli import VERBS, run

if __name__ == "__main__":
    run("python -m data_engine", VERBS["data"][0], sys.argv[1:])

"""`python -m data_engine` is `mmrl data`."""

import sys

from mmrl.commands.data import app
from mmrl.core.config import InputError

if __name__ == "__main__":
    try:
        app(prog_name="python -m data_engine")
    except InputError as error:
        print(f"python -m data_engine: {error}", file=sys.stderr)
        sys.exit(2)

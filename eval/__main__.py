"""`python -m eval` is `mmrl eval`."""

import sys

from mmrl.commands.eval import app
from mmrl.core.config import InputError

if __name__ == "__main__":
    try:
        app(prog_name="python -m eval")
    except InputError as error:
        print(f"python -m eval: {error}", file=sys.stderr)
        sys.exit(2)

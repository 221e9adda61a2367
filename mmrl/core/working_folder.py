"""The working folder as a package: `mmrl.core.working_folder.rewards` is `./rewards.py`, though `rewards` is ours.

So code of somebody's own may have the name of one of our packages, and be found again in every process.
"""

import os

__path__ = [os.getcwd()]

"""Tools with a state: a game, and objects as careless people write them."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

from mmrl.tools.scene import Scene, ToolError


class Guessing:
    """A hidden number; each rollout has four guesses."""

    def reset(self, scene: Scene) -> None:
        self.hidden, self.left = random.Random(scene.seed).randint(1, 100), 4

    def guess(self, number: int) -> str:
        """Guess the hidden number from 1 to 100.

        Args:
            number: Your guess.
        """
        if not 1 <= number <= 100:
            raise ToolError("the number is from 1 to 100")
        self.left -= 1
        found = "found" if number == self.hidden else "too low" if number < self.hidden else "too high"
        return f"{found}, {self.left} left"

    def wait(self, seconds: float) -> str:
        """Think, which costs a guess.

        Args:
            seconds: How long.
        """
        self.left -= 1
        time.sleep(seconds)
        return f"{self.left} left"

    def die(self) -> str:
        """End the process."""
        os._exit(3)


class Notes:
    """Notes that are read where they were written; closed, they are in the file that MMRL_NOTES names."""

    def reset(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> str:
        """Write a note.

        Args:
            line: The note.
        """
        self.lines.append(line)
        return "\n".join(self.lines)

    def close(self) -> None:
        with Path(os.environ["MMRL_NOTES"]).open("a") as file:
            file.write("/".join(self.lines) + "\n")


class Locked(Notes):
    """What no pickle can hold."""

    def reset(self) -> None:
        super().reset()
        self.lock = threading.Lock()


class Greeting(Notes):
    """A reset that returns something."""

    def reset(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return "hello"


class Hoarding(Notes):
    """A state of 32 MB."""

    def reset(self) -> None:
        self.lines = ["a" * (32 << 20)]


class Eager:
    """Wants an argument."""

    def __init__(self, level: int) -> None:
        self.level = level

    def reset(self) -> None: ...


class Demanding:
    """Wants the row of the dataset."""

    def reset(self, prompt: str) -> None: ...


class Endless:
    """Has no reset."""

    def step(self) -> str:
        """Take a step."""
        return "."


class Idle:
    """Has nothing to call."""

    def reset(self) -> None: ...


class Paid(Guessing):
    """Rewards itself."""

    def get_reward(self) -> float:
        return 1.0

"""Which tools a model may call, in training and in evaluation alike."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, model_validator

from mmrl.core.config import Config
from mmrl.tools.search import digest_of
from rewards.prompt_form import Text


class ToolSettings(Config):
    """The tools that the model may call while it answers, names of `mmrl.tools.registry.TOOLS`, "module:function" or
    "module:class"; how often it may speak (`max_turns`; in the last turn it may not call); the deadline of a call in
    seconds; the file of documents that the tool `search` looks in. `told` is what a model reads of tools that it has
    learned to call; by default it reads their schemas."""

    tools: list[str] = Field(default_factory=list)
    max_turns: PositiveInt = 4
    tool_seconds: Annotated[float, Field(gt=0)] = 10.0
    search_in: str | None = None
    told: Text | None = None

    def protocol(self) -> dict[str, Any]:
        """The settings as they stand in the protocol of an evaluation: documents by their content."""
        return self.model_dump(mode="json") | {"search_in": self.search_in and digest_of(self.search_in)}

    @model_validator(mode="after")
    def _for_tools(self) -> Self:
        alone = self.unusual(["max_turns", "tool_seconds", "search_in", "told"])
        if alone and not self.tools:
            raise ValueError(f"{alone[0]} is for tools; name them in tools: [crop, calculator]")
        if self.tools and self.max_turns < 2:
            raise ValueError("max_turns: 1 leaves no turn in which a result is read; give at least 2")
        if ("search" in self.tools) != (self.search_in is not None):
            raise ValueError("search_in is the file of documents for the tool search; give both, or neither")
        return self

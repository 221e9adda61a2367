"""Tools in the prompt: by the chat template where it writes them, else in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trl.chat_template_utils import supports_tool_calling

from mmrl.core.messages import parts_of
from mmrl.tools.registry import tools_of
from mmrl.tools.settings import ToolSettings
from rewards.prompt_form import PromptForm

# As Qwen's templates write it (the form of Hermes).
WORDS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class ToldForm(PromptForm):
    """A form whose system message ends with a text about tools."""

    told: str

    def asked(self, prompt: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
        """The messages of a sample, with `told` at the end of the system message, or as the system message."""
        messages = super().asked(prompt, task)
        if not messages or messages[0]["role"] != "system":
            return [{"role": "system", "content": [{"type": "text", "text": self.told}]}, *messages]
        parts = [*parts_of(messages[0]["content"]), {"type": "text", "text": f"\n\n{self.told}"}]
        return [{**messages[0], "content": parts}, *messages[1:]]


def with_tools(form: PromptForm, processor: Any, settings: ToolSettings) -> PromptForm:
    """`form` with the tools of the settings: a variable of the chat template, or words where the template does not know
    of tools, or the settings' own. Without tools, `form` itself."""
    if not settings.tools:
        return form
    if settings.told is not None:
        return ToldForm(**form.model_dump(), told=settings.told)
    schemas = [tool.schema for tool in tools_of(settings.tools).values()]
    if supports_tool_calling(processor):
        variables = {**form.chat_template_kwargs, "tools": schemas}
        return form.model_copy(update={"chat_template_kwargs": variables})
    told = WORDS.format(tools="\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas))
    return ToldForm(**form.model_dump(), told=told)

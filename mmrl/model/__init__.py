"""Vision-language models: loaded from a path, their tiny twins, prompts as inputs, and sampling."""

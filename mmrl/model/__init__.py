"""Vision-language models: loading, tiny twins, prompts as model inputs, sampling."""

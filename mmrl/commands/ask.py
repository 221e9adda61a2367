"""`mmrl ask MODEL PICTURE ... "QUESTION"`: what a checkpoint answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.commands import new_app
from mmrl.core.config import InputError, validate

app = new_app()


@app.command()
def ask(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A directory, a hub id, or demo: the one shipped.")],
    words: Annotated[
        list[str],
        typer.Argument(metavar="[FILE]... QUESTION", help="Pictures and videos, and at the end the question."),
    ],
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 512,
    temperature: Annotated[float | None, typer.Option(help="Sample at this temperature; default: greedy.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a sampled answer.")] = 0,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels that the model sees of a picture, at most.")] = 1280
    * 28
    * 28,
) -> None:
    """Ask a model about pictures and videos, and print its answer; a question alone needs no picture."""
    *files, question = words
    if Path(question).is_file():
        raise InputError(
            f'the question is missing: the last argument is the file {question}; ask MODEL FILE "QUESTION"'
        )
    if missing := [file for file in files if not Path(file).is_file()]:
        raise InputError(f'no file at {missing[0]}; put the question in quotes: ask MODEL FILE "QUESTION"')
    from data_engine.schema import Sample, user_prompt, with_id
    from eval.answer.local import LocalGenerator
    from eval.distributed import state
    from eval.generation import Draw, Sampling
    from mmrl.core.media.probe import probe
    from mmrl.core.vision import VisionBudget
    from mmrl.model.policy import load_policy

    sampled = {} if temperature is None else {"do_sample": True, "temperature": temperature, "seed": seed}
    sampling = validate(Sampling, {"max_new_tokens": tokens, **sampled}, where="ask")
    budget = validate(VisionBudget, {"max_pixels": max_pixels, "min_pixels": min(max_pixels, 3136)}, where="ask")
    media = tuple(probe(file, validate=False) for file in files)
    prompt = user_prompt(question, [item.kind for item in media])
    if system is not None:
        prompt = [{"role": "system", "content": system}, *prompt]
    loaded, processor = load_policy(model, budget, dtype="auto")
    generator = LocalGenerator(loaded.to(state().device).eval(), processor, budget=budget, sampling=sampling)
    [answer] = generator([Draw(with_id(Sample("", "ask", "open", prompt, {}, media)))])
    typer.echo(answer.response)
    if answer.truncated:
        typer.echo(f"(cut at --tokens {tokens})", err=True)

"""vLLM as the engine that answers: its server, our client of it, new weights for it. Below `eval` and the trainers."""

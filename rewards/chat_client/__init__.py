"""The client for OpenAI-compatible servers, for judges and evaluation: retries, rate, deadline, breaker, cache."""

"""Served models. A fleet is any model behind servers: vLLM in Ray actors, or an OpenAI-compatible URL. The only home of vLLM."""

"""What a run needs, whether it fits, and where it goes. Planning imports neither torch, vLLM nor Ray."""

"""Checkpoints behind an OpenAI-compatible endpoint: what is served, who may ask, what a judge is asked. The only home of Ray Serve."""

"""Serving what was trained: Ray Serve LLM behind a parity gate. The only home of ray.serve in the project."""

"""Settings: typed defaults, presets, files and `key=value`, composed and checked before anything starts.

Imports neither torch, vLLM nor Ray.
"""

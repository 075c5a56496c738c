"""Distributed experiment orchestration on Ray for LLM alignment research."""

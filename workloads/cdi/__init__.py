"""Contextualized privacy defence: agents that pass private facts on, and an instructor that learns from their failures."""

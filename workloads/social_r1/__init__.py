"""Social-R1: process rewards for social reasoning (arXiv 2603.09249)."""

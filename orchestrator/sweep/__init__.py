"""Runs × seeds: the graph of runs, search, statistics and tables."""

"""CDI: contextualised privacy defence of agents (arXiv 2603.02983)."""

"""CDI: contextualised privacy defence of agents (arXiv 2603.02983), after the code of its authors:
SALT-NLP/contextual_privacy_defense at 02d3931.
"""

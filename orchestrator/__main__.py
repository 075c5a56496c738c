"""`python -m orchestrator` is the same program as `orchestrate`, so that a Ray job can run it as it stands."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()

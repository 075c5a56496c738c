"""The papers: what is asked, what an answer is worth, what is measured. Each imports orchestrator, never the other way round."""

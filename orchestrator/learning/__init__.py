"""The DeepSpeed side: rows of tokens, objectives, SFT, the RL update, checkpoints. The only home of DeepSpeed."""

"""The semantic map: stored answers of high reward as points, and beside the picture what it cannot prove."""

"""What stands in training data and in evaluation data alike: found, reported, dropped from training."""

"""Where a model is from, and handing it or its run on to others."""

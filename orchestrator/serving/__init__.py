"""What a trained model is served by: the proof that it is that model, and the endpoint that serves it."""

"""The ranks of one worker group, as the model's layers see them."""

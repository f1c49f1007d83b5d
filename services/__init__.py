"""What you run: the tokenizer service and the worker group."""

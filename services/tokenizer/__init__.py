"""The tokenizer service: text to token ids and back, for one model. No tensors."""

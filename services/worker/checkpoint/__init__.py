"""From files to tensors: reading safetensors, a rank's part of them, and the dialects of FP8."""

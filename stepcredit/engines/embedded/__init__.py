"""The embedded engine: a small causal LM in Hugging Face format, its sampler, its checkpoints and its pretraining."""

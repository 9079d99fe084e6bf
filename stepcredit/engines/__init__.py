"""Engines: what runs models and tokenizers; the path reaches them through the protocols of core."""

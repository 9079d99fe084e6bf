"""Discriminative process reward models: one number a step, read at the token that ends it."""

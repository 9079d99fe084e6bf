"""Recipes: TOML to objects; the only place that chooses engines and joins parts. One file a paper or a job."""

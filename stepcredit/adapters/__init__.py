"""Adapters: other people's frameworks, each behind a guarded import; a missing one is named with its install line."""

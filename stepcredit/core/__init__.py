"""Core: records of the path, the Layout, protocols, errors, seeds and digests; imports nothing else of ours."""

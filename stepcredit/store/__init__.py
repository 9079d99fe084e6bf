"""The store: ledger, files, shards and the run folder; what every arrow of the path leaves on disk (`DESIGN.md` 5)."""

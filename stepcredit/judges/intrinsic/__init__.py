"""The intrinsic judge of TP-GRPO: reading tasks P0-P4, one strict parser, the two protocols, and its readers."""

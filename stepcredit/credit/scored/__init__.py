"""Rules that read a process reward model's score of each step; one a file."""

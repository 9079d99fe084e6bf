"""`python -m stepcredit`: the command, where the script is not on the path."""

from stepcredit.cli import main

if __name__ == "__main__":
    main()

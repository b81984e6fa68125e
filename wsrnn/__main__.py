"""``python -m wsrnn``."""

from wsrnn.cli import main

if __name__ == "__main__":
    main()

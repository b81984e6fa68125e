"""``python -m wsrnn``."""

from wsrnn.cli import entry

if __name__ == "__main__":
    entry()

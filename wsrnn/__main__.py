"""``python -m wsrnn``: the command line of `cli`, nothing else."""

from wsrnn.cli import entry

if __name__ == "__main__":
    entry()

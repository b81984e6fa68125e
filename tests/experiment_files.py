"""The experiment files of the repository, by name: all but the script that shows the API."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "experiments"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem != "from_python"}

"""The script of a user's own, without a command line, in few steps."""

import importlib.util
import re
from pathlib import Path

FILE = Path(__file__).parents[1] / "experiments" / "from_python.py"


def test_the_script_runs_and_says_what_it_does(capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("from_python", FILE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "STEPS", 3)
    monkeypatch.setattr(script, "milliseconds", lambda functions, *_: dict.fromkeys(functions, 1.0))
    script.main()
    out = capsys.readouterr().out
    streamed = float(re.search(r"full call to (\S+)", out)[1])
    assert streamed < 1e-4 and "the same outputs: True" in out
    seeds = re.search(r"three seeds at once: (.*)", out)[1].split()
    assert len(set(seeds)) == 3 and all(float(value) > 0 for value in seeds)
    assert "ratio 1.00" in out


def test_functions_are_timed_in_turns_and_the_first_call_is_left_out():
    spec = importlib.util.spec_from_file_location("from_python", FILE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    calls = []
    found = script.milliseconds({n: lambda n=n: calls.append(n) for n in "ab"}, repeats=3)
    assert calls == ["a", "b"] * 4 and found.keys() == {"a", "b"}
    assert all(0 <= value < 1e3 for value in found.values())

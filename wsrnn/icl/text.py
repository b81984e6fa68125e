"""The summary of a study for a terminal."""

from typing import Any

from wsrnn.tasks.prompts import Prompts
from wsrnn.text_table import text_table


def summary(document: dict[str, Any], task: Prompts) -> str:
    """The whole study, table by table."""
    at = sorted({0, 1, task.d, 2 * task.d, task.context_length} & {*task.prefixes})
    curves = {
        name: [f"{curve['error'][task.prefixes.index(n)]:.4g}" for n in at]
        for name, curve in document["errors"].items()
    }
    lines = [
        f"{document['run']}, step {document['step']}: MSE on y_q / Var(y_q), 90 % intervals over "
        f"{document['prompts']:,} prompts",
        text_table([f"n={n}" for n in at], curves),
    ]
    for title in ("shifts", "interventions"):
        rows = {
            name: [f"{row['error']:.4g}", _interval(row)]
            + [f"{row['ridge']:.4g}" for _ in range("ridge" in row)]
            for name, row in document[title].items()
        }
        columns = ["error", "interval", "ridge"][: max(map(len, rows.values()))]
        lines += [f"\n{title}, after {task.context_length} examples", text_table(columns, rows)]
    if document["implied weights"]:
        rows = {
            name: [f"{row['with w']:.3f}", f"{row['with w seen']:.3f}"]
            for name, row in document["implied weights"].items()
        }
        lines += ["\nimplied weights, cosine with w and with its projection onto the examples",
                  text_table(["w", "seen"], rows)]  # fmt: skip
    if "states" in document:
        states = document["states"]
        rows = {name: [f"{v:.3f}" for v in values] for name, values in states["probes"].items()}
        lines += ["\nlinear probes of the hidden state, R^2",
                  text_table([f"n={n}" for n in states["n"]], rows)]  # fmt: skip
    if "emergence" in document:
        lines += _plateaus(document["emergence"], document["prompts"])
    return "\n".join(lines)


def _interval(row: dict[str, float]) -> str:
    return f"[{row['low']:.4g}, {row['high']:.4g}]"


def _plateaus(emergence: dict[str, Any], prompts: int) -> list[str]:
    found = "" if emergence["plateaus"] else ": none"
    lines = [f"\nplateaus of the training loss over Var(y){found}"]
    for row in emergence["plateaus"]:
        line = f"steps {row['first']:,} to {row['last']:,}: {row['level']:.4g}"
        if emergence["predicted"]:
            nearest = min(emergence["predicted"], key=lambda level: abs(level - row["level"]))
            line += f", predicted {nearest:.4g}"
        if "error" in row:
            line += (
                f"; step {row['step']:,} on {prompts:,} fresh prompts: "
                f"{row['error']:.4g}  {_interval(row)}"
            )
        lines.append(line)
    return lines

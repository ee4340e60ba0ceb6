"""python -m wmlib.exercises writes every exercise into its notebook, as a stub, and into the solutions."""

import json
from pathlib import Path

from wmlib.checkpoint import write_atomically
from wmlib.config import resolve
from wmlib.exercises import EXERCISES, Exercise

TITLE = "exercises"  # the id of the cell behind which the exercises stand


def cells(exercise: Exercise, code: str) -> list[dict]:
    """Task, function and check as three cells of a notebook."""
    title = (
        exercise.name.replace("_", " ").capitalize().replace("Kl ", "KL ").replace(" cdf", " CDF")
    )
    hint = f"<details><summary>Hint</summary>\n\n{exercise.hint}\n\n</details>"
    task = f"### {title}\n*({exercise.minutes} minutes)* {exercise.task}\n\n{hint}"
    texts = {"task": task, "code": code, "check": f"check({exercise.name})"}
    return [
        _cell("markdown" if part == "task" else "code", f"{exercise.name}-{part}"[:64], text)
        for part, text in texts.items()
    ]


def with_stubs(notebook: dict, exercises: list[Exercise]) -> dict:
    """A notebook with its exercises behind the cell `exercises`; cells that are the same keep their outputs."""
    generated = [cell for exercise in exercises for cell in cells(exercise, exercise.stub)]
    old = {cell["id"]: cell for cell in notebook["cells"]}
    kept = [
        cell for cell in notebook["cells"] if cell["id"] not in {cell["id"] for cell in generated}
    ]
    place = [cell["id"] for cell in kept].index(TITLE) + 1
    return notebook | {"cells": kept[:place] + _with_outputs(generated, old) + kept[place:]}


def solutions(name: str, exercises: list[Exercise], metadata: dict) -> dict:
    """The notebook of solutions."""
    advice = "Try first: a check tells you more than a solution does. Each function below is one way among many."
    intro = f"# Solutions to {name}\n\n{advice}"
    sources = "".join(exercise.source for exercise in exercises)
    libraries = {"np.": "import numpy as np", "torch.": "import torch"}
    blocks = [
        ["import math"] if "math." in sources else [],
        [line for name, line in libraries.items() if name in sources],
        ["from wmlib.exercises import check"],
    ]
    imports = "\n\n".join("\n".join(block) for block in blocks if block)
    body = [cell for exercise in exercises for cell in cells(exercise, exercise.source)]
    all_cells = [_cell("markdown", "intro", intro), _cell("code", "imports", imports), *body]
    return {"cells": all_cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write(path: Path, notebook: dict) -> None:
    """Keep a notebook as Jupyter would."""
    write_atomically(path, (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode())


def _cell(kind: str, id: str, text: str) -> dict:
    cell = {"cell_type": kind, "id": id, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def _with_outputs(new: list[dict], old: dict[str, dict]) -> list[dict]:
    """The new cells; where the old one of the same id has the same source, that one, outputs and all."""
    return [
        old[cell["id"]] if old.get(cell["id"], {}).get("source") == cell["source"] else cell
        for cell in new
    ]


def main() -> None:
    """Write all of them."""
    for name in sorted({exercise.notebook for exercise in EXERCISES.values()}):
        exercises = [exercise for exercise in EXERCISES.values() if exercise.notebook == name]
        path = resolve("notebooks") / f"{name}.ipynb"
        notebook = json.loads(path.read_text())
        write(path, with_stubs(notebook, exercises))
        solved = path.parent / "solutions" / path.name
        old = (
            {cell["id"]: cell for cell in json.loads(solved.read_text())["cells"]}
            if solved.exists()
            else {}
        )
        new = solutions(name, exercises, notebook["metadata"])
        new["cells"] = _with_outputs(new["cells"], old)
        write(solved, new)


if __name__ == "__main__":
    main()

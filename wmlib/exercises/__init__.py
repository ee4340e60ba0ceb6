"""Exercises: the stub that a reader fills, the solution and the check come from one source.

An exercise is its solution, a function behind `@exercise`. `python -m wmlib.exercises` writes stubs into the notebooks
and solutions into notebooks/solutions/; `check` is what the reader calls.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exercise:
    """task and hint are Markdown; check(function) raises AssertionError with a line that says what is wrong."""

    solution: Callable
    notebook: str
    minutes: int
    task: str
    hint: str
    check: Callable[[Callable], None]

    @property
    def name(self) -> str:
        """The name of the function to write."""
        return self.solution.__name__

    @property
    def source(self) -> str:
        """The solution as a reader would have written it."""
        source = textwrap.dedent(inspect.getsource(self.solution))
        return source[source.index("def ") :].rstrip()

    @property
    def stub(self) -> str:
        """The same function without its body."""
        (function,) = ast.parse(self.source).body
        assert isinstance(function, ast.FunctionDef)
        head = self.source.splitlines()[
            : function.body[0].end_lineno
        ]  # up to the end of the docstring
        return "\n".join([*head, "    ...  # your lines"])


EXERCISES: dict[str, Exercise] = {}


def exercise(**about) -> Callable[[Callable], Callable]:
    """Register the decorated solution as an exercise; `about` is the rest of `Exercise`."""

    def register(solution: Callable) -> Callable:
        EXERCISES[solution.__name__] = Exercise(solution, **about)
        return solution

    return register


def check(function: Callable) -> None:
    """Print what there is to say of a reader's function; never raises, so that a notebook runs on."""
    print(f"{function.__name__}: {verdict(EXERCISES[function.__name__], function)}")


def verdict(wanted: Exercise, function: Callable) -> str:
    """`right`, `not attempted`, or `not yet` with the reason."""
    if _untouched(function):
        return "not attempted"
    try:
        wanted.check(function)
    except AssertionError as error:
        return f"not yet: {error}"
    except Exception as error:
        return f"not yet: {type(error).__name__}: {error}"
    return "right"


def _untouched(function: Callable) -> bool:
    """Whether there is nothing but `...`, or nothing at all, behind a function's docstring."""
    try:
        (written,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (
        OSError,
        SyntaxError,
        ValueError,
    ):  # typed into a plain Python prompt, or no function of its own
        return False
    if not isinstance(written, ast.FunctionDef):  # a lambda
        return False
    lines = written.body[ast.get_docstring(written) is not None :]
    return all(ast.unparse(line) in ("...", "pass") for line in lines)


def expect_tensor(found: object, shape: tuple[int, ...], what: str = "") -> None:
    """Raise AssertionError, with what was expected and what came, unless `found` is a tensor of that shape."""
    got = "nothing: is there a `return`?" if found is None else type(found).__name__.lower()
    if hasattr(found, "shape"):
        got += f" of shape {tuple(found.shape)}"
    assert isinstance(found, Tensor) and found.shape == shape, (
        f"expected {what and what + ', '}a tensor of shape {tuple(shape)}, got {got}"
    )


# Registers them, in this order.
from wmlib.exercises import variational, mixture, predicting  # noqa: E402, F401, I001
from wmlib.exercises import searching, controlling, judging, dreaming  # noqa: E402, F401, I001

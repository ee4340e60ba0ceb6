"""The rules that hold the repository together: one list of versions, layers, one map of the course, no stray paths."""

import ast
import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from figures import draw

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]
REQUIREMENTS = [
    Requirement(line)
    for line in PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
]
PINS = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
)
CUDA = ("nvidia-", "cuda-", "triton")  # torch from PyPI pins these itself, and only on Linux

# From top to bottom; a module may import its own layer and those below.
LAYERS = [
    {"__init__", "__main__", "cli", "server", "widgets", "plots", "video", "exercises"},
    {"collect", "train", "scoring", "evolve", "evaluate"},
    {"agent", "dream", "world", "policies", "rollout", "parallel"},
    {"run", "chain"},
    {"vae", "mdnrnn", "controller", "data", "envs", "fast"},
    {"config", "config_json", "presets", "checkpoint"},
]
MODELS = {"vae", "mdnrnn", "controller"}  # which do not import each other
FENCES = {  # third-party package -> the only modules that may import it
    "cma": {"evolve"},
    "ray": {"parallel"},
    "matplotlib": {"plots"},
    "anywidget": {"widgets"},
    "jupyter_server": {"server"},
    "gymnasium": {"envs", "dream"},
    "imageio_ffmpeg": {"video"},
}
SOURCES = sorted((ROOT / "wmlib").rglob("*.py"))
HOME_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|work)/\w+")


# --- one list of versions -------------------------------------------------------------------------------------------


def test_the_lock_pins_every_dependency_at_a_version_that_pyproject_accepts():
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), (
            requirement
        )


def test_the_lock_is_one_plain_pin_a_line():
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert lines == [f"{name}=={version}" for name, version in PINS.items()]
    assert list(PINS) == sorted(canonicalize_name(name) for name in PINS)
    assert not any("+" in version for version in PINS.values())


def test_all_that_is_installed_for_us_is_installed_as_locked():
    wanted = [
        Requirement(line)
        for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    ]
    for name, version in installed_closure(
        r for r in wanted if not r.marker or r.marker.evaluate()
    ).items():
        assert Version(version).public == PINS.get(name), f"{name} {version} is installed"


def installed_closure(requirements):
    """Name -> installed version of these requirements and all that they require here."""
    todo, seen, versions = list(requirements), set(), {}
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key not in seen and not key[0].startswith(CUDA):
            seen.add(key)
            versions[key[0]] = importlib.metadata.version(requirement.name)
            todo += needed_here(requirement)
    return versions


def needed_here(requirement):
    """What an installed package requires on this machine, with the extras asked for."""
    children = map(Requirement, importlib.metadata.requires(requirement.name) or [])
    extras = requirement.extras or {""}
    return [
        child
        for child in children
        if not child.marker or any(child.marker.evaluate({"extra": e}) for e in extras)
    ]


def test_each_dependency_gives_its_reason():
    listed = re.findall(r'^    "(.+)",(.*)$', PYPROJECT, flags=re.MULTILINE)
    assert [Requirement(line).name for line, _ in listed] == [
        requirement.name for requirement in REQUIREMENTS
    ]
    assert [line for line, reason in listed if not re.match(r" # \w.{15}", reason)] == []


def test_conda_and_make_install_the_same():
    conda = (ROOT / "environment.yml").read_text()
    assert "      - -c requirements.lock\n      - -e .[test]\n" in conda
    assert '"-c", "requirements.lock", "-e", ".[test]"' in (ROOT / "course.py").read_text()
    accepted = SpecifierSet(PROJECT["requires-python"])
    assert accepted.contains(re.search(r"- python=(\S+)", conda).group(1))
    oldest, newest = re.search(
        r"not (.+) <= sys.version_info < (.+)\)", (ROOT / "Makefile").read_text()
    ).groups()
    assert accepted == SpecifierSet(
        ">={}.{},<{}.{}".format(*ast.literal_eval(oldest), *ast.literal_eval(newest))
    )


# --- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_imports_stay_inside_the_fences(path):
    assert trespasses(module_name(path), path.read_text()) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("config", "import wmlib.vae"),
        ("vae", "def f():\n    from wmlib.mdnrnn import MDNRNN"),
        ("mdnrnn", "from wmlib import controller"),
        ("rollout", "from .evolve import evolve"),
        ("rollout", "from . import cli"),
        ("envs", "from ..agent import Agent"),
        ("run", "from wmlib.agent import Agent"),
        ("chain", "from wmlib.train import memory_steps"),
        ("data", "from wmlib.run import Run"),
        ("presets", "from wmlib.vae import VAE"),
        ("checkpoint", "from wmlib.fast import has_bf16"),
        ("world", "from wmlib.scoring import score_block"),
        ("scoring", "import cma"),
        ("world", "import gymnasium as gym"),
        ("train", "import cma.evolution_strategy as es"),
        ("evaluate", "from gymnasium.vector import VectorEnv"),
        ("cli", "import matplotlib.pyplot as plt"),
        ("utils", ""),
        ("train", "from wmlib import utils"),
    ],
)
def test_the_fences_catch_a_trespass(module, source):
    assert len(trespasses(module, source)) == 1


def test_the_fences_let_honest_imports_pass():
    assert (
        trespasses(
            "evolve", "import cma\nfrom wmlib import __version__\nfrom wmlib.rollout import returns"
        )
        == []
    )


def test_contributing_maps_every_module():
    table = (
        (ROOT / "CONTRIBUTING.md")
        .read_text()
        .partition("<!-- map -->")[2]
        .partition("<!-- /map -->")[0]
    )
    listed = re.findall(r"^\| `(\S+)` \| \d+ \| \S", table, re.MULTILINE)
    there = {
        str(path.relative_to(ROOT / "wmlib")) for path in SOURCES if "exercises" not in path.parts
    }
    assert sorted(listed) == sorted(there | {"exercises/"})


def test_contributings_map_prints_the_lines_of_each_room():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert draw.room_lines(text) == text, "lines have changed: make map counts them anew"


def test_a_line_holds_one_thought():
    """Nine tenths of the lines that are not blank end within 100 characters, every one within 120."""
    lines = [line for path in SOURCES for line in path.read_text().splitlines() if line.strip()]
    assert [line for line in lines if len(line) > 120] == []
    assert sum(len(line) <= 100 for line in lines) >= 0.9 * len(lines)


def test_files_and_functions_stay_short_enough_to_read():
    files = {path: path.read_text() for path in SOURCES}
    assert [path.name for path, text in files.items() if len(text.splitlines()) >= 320] == []
    functions = (
        (path.name, node.name, node.end_lineno - node.lineno + 1)
        for path, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    )
    assert [(file, name) for file, name, length in functions if length >= 60] == []


def module_name(path):
    """The part of the plan that a source file belongs to: all of envs/ is one."""
    return path.relative_to(ROOT / "wmlib").with_suffix("").parts[0]


def trespasses(module, source):
    """Every import of a module of wmlib that the plan forbids, and the module itself if the plan does not know it."""
    if layer(module) is None:
        return [f"{module} stands in no layer of the plan"]
    found = []
    for name in imported(source):
        package, _, inner = name.partition(".")
        if module not in FENCES.get(package, {module}):
            found.append(f"{module} imports {package}")
        if package == "wmlib" and inner and not may_import(module, inner.split(".")[0]):
            found.append(f"{module} imports wmlib.{inner}")
    return found


def imported(source):
    """The absolute name of every module that a source of wmlib/ imports, at its top or within a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["wmlib" if node.level else "", node.module]))
            submodules = [alias.name for alias in node.names if not alias.name.startswith("__")]
            yield from [f"wmlib.{name}" for name in submodules] if base == "wmlib" else [base]


def may_import(module, other):
    """Whether one part of wmlib may import another: downward, or beside it unless both are models."""
    if layer(other) is None or {module, other} <= MODELS and module != other:
        return False
    return layer(module) <= layer(other)


def layer(module):
    """The number of a module's layer, counted from the top, or None."""
    return next((number for number, names in enumerate(LAYERS) if module in names), None)


# --- one map of the course ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts():
    """What README, CONTRIBUTING and the notebooks say in Markdown, by path."""
    found = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
    for path in [
        *(ROOT / "notebooks").glob("*.ipynb"),
        *(ROOT / "notebooks/solutions").glob("*.ipynb"),
    ]:
        cells = [
            cell
            for cell in json.loads(path.read_text())["cells"]
            if cell["cell_type"] == "markdown"
        ]
        found[path.relative_to(ROOT).as_posix()] = "\n\n".join(
            "".join(cell["source"]) for cell in cells
        )
    return found


def test_readme_notebook_00_and_the_headers_agree(texts):
    assert disagreements(texts) == []


def test_every_link_leads_to_its_file_and_every_notebook_leads_on(texts):
    assert dead_ends(texts) == []


@pytest.mark.parametrize(
    "name, said, instead",
    [
        ("README.md", " | 40 min |", " | 39 min |"),
        ("README.md", "[04 · M: a memory that predicts]", "[04 · M: a mind]"),
        ("README.md", "| 00, A, 01, 02,", "| 00, 01, 02,"),
        (
            "notebooks/00_start_here.ipynb",
            "| can you drive without a dashboard? |",
            "| can you drive? |",
        ),
        (
            "notebooks/00_start_here.ipynb",
            "(A_refresher.ipynb) | a density",
            "(02_vae.ipynb) | a density",
        ),
        ("notebooks/02_vae.ipynb", "# 02 · V", "# 03 · V"),
        ("notebooks/A_refresher.ipynb", "about 10 seconds to run", "about a minute to run"),
        (
            "notebooks/08_dreaming.ipynb",
            "**Before:** [04](04_mdn_rnn.ipynb)",
            "**Before:** [07](07_car_racing_agent.ipynb)",
        ),
    ],
)
def test_a_word_changed_in_one_place_is_noticed(texts, name, said, instead):
    assert said in texts[name]
    assert set(disagreements(texts | {name: texts[name].replace(said, instead)})) - set(
        disagreements(texts)
    )


@pytest.mark.parametrize(
    "name, said, instead",
    [
        ("README.md", "](CONTRIBUTING.md)", "](CONTRIBUTORS.md)"),
        (
            "notebooks/01_car_racing_and_rollouts.ipynb",
            "[04](04_mdn_rnn.ipynb)",
            "[04](06_controller.ipynb)",
        ),
        ("notebooks/03_mixture_density.ipynb", "[04 · M](", "[04 · Memory]("),
        ("notebooks/02_vae.ipynb", "**Next:**", "Then"),
    ],
)
def test_a_link_that_leads_astray_is_noticed(texts, name, said, instead):
    assert said in texts[name]
    assert set(dead_ends(texts | {name: texts[name].replace(said, instead)})) - set(
        dead_ends(texts)
    )


def disagreements(texts):
    """Where the tables and routes of README and notebook 00 and the notebooks' own headers differ, a line each."""
    readme, start = texts["README.md"], texts["notebooks/00_start_here.ipynb"]
    table, books = (
        rows(readme),
        {number(name): text for name, text in texts.items() if is_lesson(name)},
    )
    same = {
        "the tables of README and notebook 00": table == rows(start),
        "the routes of README and notebook 00": routes(readme) == routes(start),
        "README's table and the notebooks that there are": table.keys() == books.keys(),
    }
    found = [what for what, fine in same.items() if not fine]
    for book, (label, file, _, running, reading) in table.items():
        text, header = (
            books.get(book, ""),
            books.get(book, "").partition("**Time:**")[2].partition("\n")[0],
        )
        same = {
            "title": is_titled(text, label) and number(file) == book,
            "time to run": f"about {running} to run" in header,
            "time to read": f"{reading.removesuffix(' min')} minutes to read" in header,
        }
        found += [f"the {what} of notebook {book}" for what, fine in same.items() if not fine]
    for route, stops in routes(readme).items():
        needs = {stop: re.findall(r"\*\*Before:\*\*([^*]*)", books.get(stop, "")) for stop in stops}
        for place, stop in enumerate(stops):
            missing = {number(file) for _, file in links("".join(needs[stop]))} - set(stops[:place])
            found += [f"{stop} on the route {route!r}: first {other}" for other in sorted(missing)]
    return found


def dead_ends(texts):
    """Links to no file or to another than they say, and lessons, but for the last, without a next one; a line each."""
    found = []
    for name, text in texts.items():
        for label, target in links(text):
            aim = ((ROOT / name).parent / target).resolve()
            there = texts.get(aim.relative_to(ROOT).as_posix(), "")
            named = re.fullmatch(r"(?:[Nn]otebook )?(\d\d|[A-Z])", label)
            fine = (
                named[1] == number(target)
                if named
                else " · " not in label or is_titled(there, label)
            )
            found += [] if aim.is_file() and fine else [f"{name}: [{label}]({target})"]
    lessons = {number(name): text for name, text in texts.items() if is_lesson(name)}
    last = max(book for book in lessons if book.isdigit())
    ahead = {
        book: links(text.rpartition("**Next:**")[2])
        for book, text in lessons.items()
        if "**Next:**" in text
    }
    return found + [
        f"nothing follows notebook {book}"
        for book in lessons
        if book != last and not ahead.get(book)
    ]


def rows(text):
    """Number -> the link's text and file, question, time to run and time to read, of each notebook in a table."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.endswith(" min |")]
    linked = [(*links(line[0])[0], line[1], *line[-2:]) for line in lines]
    return {number(label): (label, Path(file).name, *rest) for label, file, *rest in linked}


def routes(text):
    """Name -> the numbers of its notebooks, of each route in a table."""
    lines = re.findall(r"^\| \**([\w ]+?)\** \| [^|]+ \| (00 ?[,→][^|]+) \|$", text, re.MULTILINE)
    return {
        name: re.findall(r"\b(\d\d|[A-Z])\b", re.sub(r"\(.*?\)", "", stops))
        for name, stops in lines
    }


def links(text):
    """Text and target of every relative link."""
    return re.findall(r"\[([^][]*)\]\((?!https?:)([^)#\s]+)", text)


def number(name):
    """The number, or the letter, of a notebook, from its path or its title."""
    return re.split(r"[_ ]", Path(name).stem)[0]


def is_lesson(name):
    """Whether a path is a notebook of the course, and not one of its solutions."""
    return Path(name).parent.name == "notebooks"


def is_titled(text, label):
    """Whether a notebook's title is this, or begins so before a colon."""
    title = text.partition("\n")[0]
    return title == f"# {label}" or title.startswith(f"# {label}: ")


# --- what is committed ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tracked():
    """Every file that git tracks or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of committed files")
    return [path for name in listing.stdout.split("\0") if (path := ROOT / name).is_file()]


def test_no_text_for_readers_names_a_directory_of_somebodys_machine(tracked):
    texts = [path for path in tracked if path.suffix in {".md", ".ipynb"}]
    assert texts
    assert [
        (path.name, match.group())
        for path in texts
        if (match := HOME_PATH.search(path.read_text()))
    ] == []


@pytest.mark.parametrize(
    "text, caught",
    [
        ("saved to /home/ada/runs", True),
        ('"/Users/ada/wm.png"', True),
        ("see https://example.org/work/page", False),
        ("figures/home/map.png and ~/home/map.png", False),
    ],
)
def test_the_search_for_such_a_directory_finds_it(text, caught):
    assert bool(HOME_PATH.search(text)) is caught


def test_the_repository_stays_small(tracked):
    assert sum(path.stat().st_size for path in tracked) < 100e6

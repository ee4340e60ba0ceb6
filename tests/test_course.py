"""Setting the course up and opening it: what can be missing gives one clear line and leaves nothing half made."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import course

ROOT = Path(__file__).resolve().parents[1]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def bare(tmp_path):
    """A copy of what the set-up reads, on a machine that has not been set up."""
    for name in ("Makefile", "course.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A small notebooks/ folder in place of the real one."""
    monkeypatch.setattr(course, "ROOT", tmp_path)
    write(tmp_path / "notebooks/00_start_here.ipynb", "first")
    write(tmp_path / "notebooks/solutions/00.ipynb", "solution")
    write(tmp_path / "notebooks/ruff.toml", "for those who write the course")
    write(tmp_path / "notebooks/.ipynb_checkpoints/00_start_here-checkpoint.ipynb", "autosave")
    return tmp_path / "notebooks"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("python", ["", "false", "no-such-python"])
def test_make_without_a_suitable_python_says_so(bare, python):
    result = subprocess.run(
        ["make", "course", f"PYTHON={python}"], cwd=bare, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert result.stderr.splitlines()[0].startswith("No Python 3.11, 3.12 or 3.13 found")
    assert not (bare / ".venv").exists()


def test_without_a_network_nothing_is_left_behind(bare):
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    offline = settings | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    result = subprocess.run(
        [sys.executable, "course.py", "install"],
        cwd=bare,
        env=offline,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert result.stderr.startswith("No network") and result.stderr.count("\n") == 1
    assert not (bare / ".venv").exists()


def test_a_full_disk_is_told_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10e9, 9e9, 1e9))
    with pytest.raises(
        SystemExit, match=r"Not enough disk space: .* about \d GB .* 1\.0 GB are free"
    ):
        course.check_machine()


def test_a_python_without_venv_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(course.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"apt-get install python3\.\d+-venv"):
        course.check_machine()


def test_the_readers_copy_is_made_once_and_never_overwritten(notebooks, tmp_path):
    study = tmp_path / "study"
    course.copy_notebooks(study)
    assert files(study) == ["00_start_here.ipynb", "solutions/00.ipynb"]

    write(study / "00_start_here.ipynb", "the reader's own work")
    write(notebooks / "01_new.ipynb", "new")
    course.copy_notebooks(study)
    assert (study / "00_start_here.ipynb").read_text() == "the reader's own work"
    assert (study / "01_new.ipynb").read_text() == "new"


def test_a_copy_that_breaks_off_is_made_whole_the_next_time(notebooks, tmp_path, monkeypatch):
    def break_off(source, target):
        Path(target).write_text("fi")
        raise OSError("no space left on device")

    study = tmp_path / "study"
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(shutil, "copyfile", break_off)
        course.copy_notebooks(study)
    course.copy_notebooks(study)
    assert files(study) == ["00_start_here.ipynb", "solutions/00.ipynb"]
    assert (study / "00_start_here.ipynb").read_text() == "first"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_a_browser_is_opened_only_on_a_display(monkeypatch, tmp_path):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    assert "--no-browser" not in course.jupyter_options(tmp_path / "study")
    monkeypatch.delenv("DISPLAY")
    assert "--no-browser" in course.jupyter_options(tmp_path / "study")

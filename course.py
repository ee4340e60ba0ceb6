"""Sets the course up (`python course.py install`) and opens it (`.venv/bin/python course.py open`); make runs both."""

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
FIRST_NOTEBOOK = "00_start_here.ipynb"
NEWS = "@jupyterlab/apputils-extension:announcements"  # looks for news and updates on the network
NEEDED_GB = (
    6 if platform.system() == "Linux" else 3
)  # on Linux torch from PyPI brings its GPU libraries along


def install():
    """Make .venv and install the package there under the lock; a .venv that fails halfway is removed."""
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    fresh = not runs(python, "-c", "import pip")
    try:
        if fresh:
            check_machine()
            call("This Python cannot make a .venv.", sys.executable, "-m", "venv", "--clear", VENV)
        check_network(python)
        pip = [python, "-m", "pip", "install", "-c", "requirements.lock", "-e", ".[test]"]
        call("pip could not install the packages; its own message stands above.", *pip)
    except BaseException:
        if fresh:
            shutil.rmtree(VENV, ignore_errors=True)
        raise


def check_machine():
    """Exit with one line if this Python lacks venv or the disk lacks space."""
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(
            f"This Python has no venv module: apt-get install python3.{sys.version_info.minor}-venv"
        )
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < NEEDED_GB:
        needed = f".venv needs about {NEEDED_GB} GB (most of it torch)"
        sys.exit(f"Not enough disk space: {needed}, {free_gb:.1f} GB are free.")


def check_network(python):
    """Exit with one line if pip, as it is configured here, cannot find even a tiny package."""
    pip = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"]
    if not runs(*pip, "--retries", "1", "--timeout", "15", "cycler"):
        sys.exit(
            "No network: pip reaches no package index. Connect, or set pip's proxy, then run this again."
        )


def runs(*command):
    """Whether a command starts and succeeds; its output is dropped."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    except OSError:
        return False


def call(complaint, *command):
    """Run a command in view; exit with the complaint if it fails."""
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit(complaint)


def copy_notebooks(study):
    """Copy each notebook that `study` lacks, whole or not at all, and touch none that it has."""
    notebooks = ROOT / "notebooks"
    for source in sorted(notebooks.rglob("*.ipynb")):
        target = study / source.relative_to(notebooks)
        if ".ipynb_checkpoints" not in source.parts and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            shutil.copyfile(source, partial)
            partial.rename(target)


def open_course(study):
    """Copy the notebooks and serve them in JupyterLab, which prints its address and opens a browser if it can."""
    from jupyterlab.commands import disable_extension
    from jupyterlab.labapp import LabApp

    disable_extension(NEWS, level="sys_prefix")
    copy_notebooks(study)
    # For a notebook's !python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    LabApp.launch_instance(jupyter_options(study))


def jupyter_options(study):
    """JupyterLab on this machine only, seeing the whole course, ending at the first Ctrl-C."""
    options = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={study.parent}",
        f"--LabApp.default_url=/lab/tree/{study.name}/{FIRST_NOTEBOOK}",
        "--ServerApp.answer_yes=True",
        "--KernelManager.transport_encryption=auto",  # without it each kernel prints a warning
        "--ServerApp.kernel_websocket_connection_class=wmlib.server.PromptConnection",
        "--log-level=ERROR",
        "--LabApp.log_level=ERROR",
    ]
    if platform.system() == "Linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    return options


def main():
    """Run the job that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=["install", "open"])
    parser.add_argument(
        "--study", type=Path, default=ROOT / "study", help="the reader's copy of the notebooks"
    )
    arguments = parser.parse_args()
    try:
        if arguments.job == "install":
            install()
        else:
            open_course(arguments.study.resolve())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"course.py: {error}")


if __name__ == "__main__":
    main()

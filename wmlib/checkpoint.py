"""Weights, histories and run descriptions on disk: whole or not at all, never pickled."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch.nn import Module
from torch.optim import Adam

from wmlib.config import ROOT


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, flush to disk, then rename: a reader sees the old file or the new.

    What a writer of the same file, killed half way, left behind is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: dict) -> None:
    """`values` as indented JSON, atomically."""
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())


def read_json(path: Path) -> dict:
    """The JSON object in `path`; ValueError if the file is damaged."""
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("no JSON object")
        return values
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete its folder and make it anew"
        ) from None


def append_line(path: Path, values: dict) -> None:
    """One JSON line at the end of a log, flushed to disk before this returns."""
    with open(path, "a") as file:
        file.write(json.dumps(values) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict]:
    """All whole lines of a log. A torn last line, left by a crash, is cut off the file."""
    if not path.exists():
        return []
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        write_atomically(path, whole + newline)
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or start another run") from None


def keep_lines(path: Path, count: int) -> None:
    """Cut a log back to its first `count` lines."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if len(lines) > count:
        write_atomically(path, b"".join(lines[:count]))


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def to_half(tensors: dict) -> dict:
    """The tensors in the half precision that weights ship in."""
    return {name: tensor.half() for name, tensor in tensors.items()}


def save_weights(folder: Path, tensors: dict, meta: dict) -> None:
    """`weights.safetensors` and, beside it, `meta.json` with the weights' hash added."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(folder / "weights.safetensors", content)
    write_json(folder / "meta.json", meta | {"weights_sha256": hashlib.sha256(content).hexdigest()})


def load_weights(folder: Path) -> dict:
    """The tensors of `save_weights`, as float32.

    Raises FileNotFoundError when there are none, ValueError when the file differs from what its meta.json describes.
    """
    path = folder / "weights.safetensors"
    for needed in (path, folder / "meta.json"):
        if not needed.exists():
            raise FileNotFoundError(
                f"{needed} is missing; train this stage first (python -m wmlib --help)"
            )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != read_json(folder / "meta.json").get("weights_sha256"):
        odd = "truncated or edited: its hash is not the one in meta.json"
        raise ValueError(f"{path} is {odd}; restore it or train anew")
    return {name: tensor.float() for name, tensor in load(content).items()}


def load_into(module: Module, folder: Path) -> None:
    """Load a folder's weights into a module; ValueError when the sizes don't match."""
    tensors, expected = load_weights(folder), module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        wanted = tuple(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            misfit = f"{folder}/weights.safetensors does not fit this {type(module).__name__}"
            raise ValueError(
                f"{misfit}: {name} is {found}, expected {wanted}; check z_size and hidden_size"
            )
    module.load_state_dict(tensors)


def save_progress(
    folder: Path, module: Module, optimizer: Adam, step: int, seconds: float, data: str = ""
) -> None:
    """All that continues a training after `step` steps, in one file: weights, Adam's moments, the seconds it took.

    data: the hash of what it is trained on.
    """
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {
            f"adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()
        }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(tensors, metadata={"step": str(step), "seconds": str(seconds), "data": data})
    write_atomically(folder / "progress.safetensors", content + hashlib.sha256(content).digest())


def load_progress(
    folder: Path, module: Module, optimizer: Adam, data: str = ""
) -> tuple[int, float]:
    """Continue from `save_progress`: fills module and optimizer; returns the steps done and their seconds, or 0, 0.

    Raises ValueError for a damaged file, for another module's, and for one of a training on other data.
    """
    path = folder / "progress.safetensors"
    if not path.exists():
        return 0, 0.0
    content, digest = path.read_bytes()[:-32], path.read_bytes()[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path} is damaged; delete it to train this stage from its start")
    tensors = load(content)
    about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    if about.get("data", data) != data:
        raise ValueError(
            f"{path} was trained on other data than there is now; delete it to train this stage anew"
        )
    weights = {
        name[len("module.") :]: tensor
        for name, tensor in tensors.items()
        if name.startswith("module.")
    }
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        misfit = f"{path} does not fit this {type(module).__name__}"
        raise ValueError(f"{misfit}; delete it to train this stage from its start") from None
    states: dict[int, dict] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, moment = name.split(".")
            states.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict(
        {"state": states, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return int(about["step"]), float(about["seconds"])


def describe(started: float, **values) -> dict:
    """What a meta.json says of how its result was made: command, commit, seconds since `started`, given values."""
    command = (
        " ".join(["python -m wmlib", *sys.argv[1:]])
        if "wmlib" in sys.argv[0]
        else Path(sys.argv[0]).name
    )
    return {
        "command": command,
        "commit": commit(),
        "duration_s": round(time.time() - started, 1),
        **values,
    }


def commit() -> str:
    """The repository's commit, with + when files differ from it; "unknown" outside a checkout."""
    try:
        args = [
            "git",
            "-C",
            str(ROOT),
            "describe",
            "--always",
            "--abbrev=40",
            "--dirty=+",
            "--exclude=*",
        ]
        return subprocess.run(args, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def uncommitted(*folders: str, root: Path = ROOT) -> list[str]:
    """The files in some of the repository's folders that differ from its commit; none if all is kept.

    Raises ValueError outside a checkout.
    """
    args = ["git", "-C", str(root), "status", "--porcelain", "--", *folders]
    try:
        found = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise ValueError(f"{root} is no git checkout, so a result's code can't be named") from None
    return [line[3:] for line in found.splitlines()]


def code_hash(*folders: str, root: Path = ROOT) -> str:
    """One hash over the paths and contents of all Python sources in some of the repository's folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

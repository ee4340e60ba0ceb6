"""Files that are whole or not there, weights that are what their meta.json says, trainings that go on bit for bit."""

import json
import os

import pytest
import torch
from torch import nn

from wmlib import checkpoint
from wmlib.checkpoint import (
    append_line,
    keep_lines,
    load_into,
    load_progress,
    load_weights,
    read_json,
    read_lines,
    save_progress,
    save_weights,
    write_atomically,
    write_json,
)  # fmt: skip
from wmlib.mdnrnn import MDNRNN


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


@pytest.fixture
def weights(tmp_path):
    """A folder with the weights of `small`."""
    save_weights(tmp_path / "v", small().state_dict(), {"seed": 5})
    return tmp_path / "v"


def test_a_written_file_holds_its_content_and_has_no_neighbour(tmp_path):
    path = tmp_path / "deep" / "down" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]


def test_what_a_killed_writer_left_behind_is_removed_by_the_next(tmp_path):
    for name in (".file.4711.tmp", ".other.4711.tmp"):
        (tmp_path / name).write_bytes(b"half")
    write_atomically(tmp_path / "file", b"whole")
    assert sorted(os.listdir(tmp_path)) == [".other.4711.tmp", "file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_whole_and_no_temporary(tmp_path, monkeypatch, step):
    def full(*args):
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(checkpoint.os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_ctrl_c_in_a_write_leaves_the_old_file_whole_and_no_temporary(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(checkpoint.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_the_content_is_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(checkpoint.os, "fsync", lambda *args: (calls.append("fsync"), fsync(*args)))
    monkeypatch.setattr(
        checkpoint.os, "replace", lambda *args: (calls.append("replace"), replace(*args))
    )
    write_atomically(tmp_path / "file", b"x")
    assert calls == ["fsync", "replace"]


def test_json_comes_back(tmp_path):
    values = {"a": [1, 2.5, None], "b": {"c": "text"}}
    write_json(tmp_path / "x.json", values)
    assert read_json(tmp_path / "x.json") == values


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": 1', b"\xff\xfe\x00broken", b"[1, 2]"],
    ids=["empty", "torn", "no text", "no object"],
)
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match="x.json is damaged"):
        read_json(tmp_path / "x.json")


def test_a_log_gives_back_its_lines_in_order(tmp_path):
    log, rows = tmp_path / "log.jsonl", [{"step": step, "loss": 0.1 * step} for step in range(5)]
    for row in rows:
        append_line(log, row)
    assert read_lines(log) == rows


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert read_lines(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize("torn", [b"{", b'{"step": 2, "lo', b'{"step": 2}', b"\x00\x00\x00"])
def test_a_torn_last_line_is_dropped_and_the_log_goes_on(tmp_path, torn):
    log = tmp_path / "log.jsonl"
    append_line(log, {"step": 0})
    append_line(log, {"step": 1})
    log.write_bytes(log.read_bytes() + torn)
    assert read_lines(log) == [{"step": 0}, {"step": 1}]
    append_line(log, {"step": 2})
    assert read_lines(log) == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_a_log_with_nothing_but_a_torn_line_is_empty(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"ste')
    assert read_lines(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize(
    "line", [b"{oops}", b"\x00\x00\x00\x00", b"\xff\xfe\xfd"], ids=["text", "zeros", "no text"]
)
def test_a_damaged_line_inside_a_log_is_an_error_that_names_it(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 0}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(ValueError, match="log.jsonl is damaged"):
        read_lines(tmp_path / "log.jsonl")


@pytest.mark.parametrize("count, left", [(0, 0), (2, 2), (4, 4), (9, 4)])
def test_a_log_is_cut_back_to_its_first_lines(tmp_path, count, left):
    log, rows = tmp_path / "log.jsonl", [{"step": step} for step in range(4)]
    for row in rows:
        append_line(log, row)
    keep_lines(log, count)
    assert read_lines(log) == rows[:left]


def test_cutting_a_log_that_is_not_there_makes_none(tmp_path):
    keep_lines(tmp_path / "log.jsonl", 0)
    assert not (tmp_path / "log.jsonl").exists()


def test_weights_come_back_as_float32(weights):
    found = load_weights(weights)
    expected = small().state_dict()
    assert found.keys() == expected.keys()
    assert all(
        found[name].dtype == torch.float32 and torch.equal(found[name], expected[name])
        for name in expected
    )


def test_half_precision_weights_come_back_rounded_once(tmp_path):
    tensors = small().state_dict()
    save_weights(tmp_path, checkpoint.to_half(tensors), {})
    assert all(
        torch.equal(found, tensors[name].half().float())
        for name, found in load_weights(tmp_path).items()
    )


def test_meta_json_keeps_what_it_was_given_and_the_weights_hash(weights):
    meta = read_json(weights / "meta.json")
    assert meta["seed"] == 5
    assert meta["weights_sha256"] == checkpoint.file_hash(weights / "weights.safetensors")


def test_the_same_weights_are_the_same_bytes(weights, tmp_path):
    save_weights(tmp_path / "again", small().state_dict(), {"seed": 5})
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == (
        weights / "weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("name", ["weights.safetensors", "meta.json"])
def test_missing_weights_are_named(weights, name):
    (weights / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; train this stage first"):
        load_weights(weights)


def edit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage", [edit, lambda content: content[:-1], lambda content: content[:4], lambda content: b""]
)
def test_truncated_or_edited_weights_are_refused_in_one_line(weights, damage):
    path = weights / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="weights.safetensors is truncated or edited") as caught:
        load_weights(weights)
    assert "\n" not in str(caught.value)


def test_weights_of_another_meta_json_are_refused(weights):
    write_json(weights / "meta.json", {"seed": 5})
    with pytest.raises(ValueError, match="truncated or edited"):
        load_weights(weights)


def test_weights_fill_a_module(weights):
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    load_into(module, weights)
    assert all(
        torch.equal(one, other)
        for one, other in zip(module.state_dict().values(), small().state_dict().values())
    )


def test_weights_of_another_size_are_refused_with_both_sizes(weights):
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    with pytest.raises(
        ValueError, match=r"does not fit this Sequential: 0.bias is \(4,\), expected \(5,\)"
    ):
        load_into(module, weights)


@pytest.mark.parametrize(
    "layers, name, text",
    [(1, "2.bias", r"\(1,\), expected nothing"), (5, "4.bias", r"nothing, expected \(1,\)")],
)
def test_weights_with_other_names_are_refused(weights, layers, name, text):
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh(), nn.Linear(1, 1))[
        :layers
    ]
    with pytest.raises(ValueError, match=f"{name} is {text}"):
        load_into(module, weights)


def test_a_refused_file_leaves_the_module_as_it_was(weights):
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    before = [tensor.clone() for tensor in module.state_dict().values()]
    with pytest.raises(ValueError):
        load_into(module, weights)
    assert all(torch.equal(one, other) for one, other in zip(module.state_dict().values(), before))


def recurrent():
    torch.manual_seed(0)
    return MDNRNN(2, 1, 3, 2)


def pictures():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh()).to(memory_format=torch.channels_last)


def start(make, only_trainable=False):
    module = make()
    return module, torch.optim.Adam(
        [p for p in module.parameters() if p.requires_grad or not only_trainable], 0.05
    )


def loss_of(module):
    if isinstance(module, MDNRNN):
        return module(torch.randn(2, 3, 2), torch.randn(2, 3, 1))[0].mu.square().sum()
    shape = (2, 3, 4, 4) if isinstance(module[0], nn.Conv2d) else (2, 3)
    return module(torch.randn(shape)).square().sum()


def descend(module, optimizer, first, last):
    for step in range(first, last):
        torch.manual_seed(1000 + step)
        optimizer.zero_grad()
        loss_of(module).backward()
        optimizer.step()


@pytest.mark.parametrize("make", [small, recurrent, pictures])
@pytest.mark.parametrize("only_trainable", [False, True])
def test_a_training_continues_bit_for_bit(tmp_path, make, only_trainable):
    whole = start(make, only_trainable)
    descend(*whole, 0, 9)
    stopped = start(make, only_trainable)
    descend(*stopped, 0, 4)
    save_progress(tmp_path, *stopped, 4, 2.5)
    resumed = start(make, only_trainable)
    assert load_progress(tmp_path, *resumed) == (4, 2.5)
    descend(*resumed, 4, 9)
    for one, other in zip(
        whole[0].state_dict().values(), resumed[0].state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_training_without_adams_moments_would_differ(tmp_path):
    whole, stopped, resumed = start(small), start(small), start(small)
    descend(*whole, 0, 9)
    descend(*stopped, 0, 4)
    resumed[0].load_state_dict(stopped[0].state_dict())
    descend(*resumed, 4, 9)
    assert not torch.equal(whole[0][0].weight, resumed[0][0].weight)


def test_a_training_that_never_stopped_begins_at_step_zero(tmp_path):
    assert load_progress(tmp_path, *start(small)) == (0, 0)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_progress_is_named(tmp_path, keep):
    training = start(small)
    descend(*training, 0, 2)
    save_progress(tmp_path, *training, 2, 1)
    path = tmp_path / "progress.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="progress.safetensors is damaged; delete it"):
        load_progress(tmp_path, *start(small))


def test_edited_progress_is_refused(tmp_path):
    training = start(small)
    descend(*training, 0, 2)
    save_progress(tmp_path, *training, 2, 1)
    path = tmp_path / "progress.safetensors"
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(ValueError, match="progress.safetensors"):
        load_progress(tmp_path, *start(small))


def test_progress_of_another_module_is_a_value_error(tmp_path):
    save_progress(tmp_path, *start(small), 0, 0)
    with pytest.raises(ValueError, match="progress.safetensors"):
        load_progress(tmp_path, *start(recurrent))


def test_a_description_names_command_commit_and_duration(monkeypatch):
    monkeypatch.setattr(
        checkpoint.sys, "argv", ["/x/wmlib/__main__.py", "collect", "--run", "runs/a"]
    )
    monkeypatch.setattr(checkpoint.time, "time", lambda: 103.26)
    values = checkpoint.describe(100.0, seed=4)
    assert values["command"] == "python -m wmlib collect --run runs/a"
    assert values["duration_s"] == 3.3 and values["seed"] == 4
    assert json.dumps(values) and values["commit"]


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkpoint.commit(tmp_path) == "unknown" and checkpoint.uncommitted(tmp_path) == []

"""The chain of stages: what each stands on, what is missing, and a base that must stay as it was."""

from dataclasses import replace

import pytest

from tests.runs import AFTER, ALL, begin, collecting, complaint, do, dreaming, finish, follow, keep
from tests.tiny import TINY
from wmlib import presets
from wmlib.chain import is_done, needs, plan, require, stages
from wmlib.checkpoint import read_json, write_json
from wmlib.run import claim_run, open_run


def test_a_run_has_the_stages_that_make_its_own_parts(tmp_path):
    base = begin(tmp_path / "base")
    assert stages(base) == ["collect", "train-vae", "train-mdnrnn", "evolve"]
    nothing = collecting(0)
    second_c = follow(base, tmp_path / "c", ALL, collect=nothing)
    assert stages(second_c) == ["evolve"]
    headed = replace(TINY, mdnrnn=replace(TINY.mdnrnn, outcome=AFTER))
    outcome = follow(base, tmp_path / "outcome", ALL, headed, collect=nothing)
    assert stages(outcome) == ["train-mdnrnn", "evolve"]


@pytest.fixture
def nested(monkeypatch):
    """Three presets, each within the one that goes on from it; its chain has every kind of need."""
    one = replace(dreaming(TINY, 1), preset="one", seed=1)
    two = replace(one, preset="two", seed=2, after="one", keeps=ALL, collect=collecting(2))
    settings = replace(two.evolve, start="base")
    three = replace(
        two, preset="three", seed=3, after="two", collect=collecting(0, 3), evolve=settings
    )
    for config in (one, two, three):
        monkeypatch.setitem(presets.PRESETS, config.preset, config)
    return three


def test_a_plan_can_be_resumed_anywhere_and_each_stage_finds_what_it_needs(tmp_path, nested):
    run = claim_run(tmp_path / "run", nested)
    whole = plan(run)
    names = [(one.folder.name, stage) for one, stage in whole]
    assert names == [
        ("one", "collect"), ("two", "collect"), ("one", "train-vae"), ("one", "train-mdnrnn"),
        ("two", "evolve"), ("run", "collect"), ("run", "evolve"),
    ]  # fmt: skip
    for number, (one, stage) in enumerate(whole):
        assert stage in stages(one)
        assert plan(open_run(run.folder)) == whole[number:]
        assert not is_done(one, stage)
        require(one, stage)
        do(one, stage)
        assert is_done(one, stage)
    assert plan(run) == []


def test_a_stage_that_comes_too_early_names_the_command_and_makes_nothing(tmp_path, nested):
    run = claim_run(tmp_path / "run", nested)
    two, one = run.base, run.base.base
    there = sorted(tmp_path.rglob("*"))
    line = complaint(FileNotFoundError, require, run, "collect")
    assert line == (
        f"collect needs the whole of collect in {two.folder} first; "
        f"run python -m wmlib agent --preset two --run {two.folder}"
    )
    for stage in ("train-vae", "train-mdnrnn"):
        line = complaint(FileNotFoundError, require, one, stage)
        assert line.endswith(f"run python -m wmlib collect --preset one --run {one.folder}")
    line = complaint(FileNotFoundError, require, two, "evolve")
    assert line.startswith("evolve needs the whole of collect")
    assert sorted(tmp_path.rglob("*")) == there


def test_a_plan_asks_each_part_of_the_run_that_makes_it(tmp_path, nested):
    """The last run dreams by one more M, so its own training stands on the first one's."""
    config = replace(nested, evolve=dreaming(TINY, 2).evolve, collect=collecting(0))
    whole = plan(claim_run(tmp_path / "run", config))
    assert [(one.folder.name, stage) for one, stage in whole] == [
        ("one", "collect"), ("two", "collect"), ("one", "train-vae"), ("one", "train-mdnrnn"),
        ("run", "train-mdnrnn"), ("run", "evolve"),
    ]  # fmt: skip


def test_an_episode_that_the_base_lost_is_collected_again(tmp_path):
    base = finish(begin(tmp_path / "base"))
    run = follow(base, tmp_path / "run", ("episodes",), collect=collecting(2))
    do(run, "collect")
    base.episodes.path(3).unlink()
    assert not is_done(run, "collect") and plan(run)[0] == (base, "collect")
    line = complaint(FileNotFoundError, require, run, "train-vae")
    assert line.startswith("train-vae needs the whole of collect first")


def test_half_a_collection_and_half_a_search_are_not_done(tmp_path):
    run = finish(begin(tmp_path / "run"))
    run.episodes.path(3).unlink()
    meta = run.folder / "controller" / "meta.json"
    write_json(meta, read_json(meta) | {"generation": TINY.evolve.generations - 1})
    assert plan(run) == [(run, "collect"), (run, "evolve")]


def test_a_finished_base_is_asked_for_nothing_even_without_its_episodes(tmp_path):
    base = begin(tmp_path / "base")
    for part in ("vae", "mdnrnn", "controller"):  # as an agent ships
        keep(base, part)
    settings = replace(TINY.evolve, start="base")
    run = follow(base, tmp_path / "run", ("vae",), collect=collecting(0, 3), evolve=settings)
    assert plan(run) == [(run, "collect"), (run, "train-mdnrnn"), (run, "evolve")]
    for one, stage in plan(run):
        require(one, stage)
        do(one, stage)
    assert not (base.folder / "base.json").exists() and plan(run) == []


def test_dreams_need_the_episodes_at_which_they_begin_and_a_drive_does_not(tmp_path):
    base = finish(begin(tmp_path / "base", dreaming(TINY)))
    asleep = follow(base, tmp_path / "asleep", ALL, base.config, collect=collecting(0))
    awake = replace(asleep.config.evolve, world="real")
    awake = follow(base, tmp_path / "awake", ALL, base.config, collect=collecting(0), evolve=awake)
    assert (base, "collect") in needs(asleep, "evolve")
    assert (base, "collect") not in needs(awake, "evolve")


def test_the_command_of_a_stage_is_what_a_reader_types(tmp_path):
    run = begin(tmp_path / "run")
    assert run.command("evolve") == f"python -m wmlib evolve --preset tiny --run {tmp_path / 'run'}"
    with pytest.raises(FileNotFoundError, match=f"run {run.command('train-vae')} first"):
        run.weights_hash("vae")


@pytest.mark.parametrize("part", ["vae", "mdnrnn", "controller"])
def test_a_base_that_was_changed_is_refused(tmp_path, part):
    base = finish(begin(tmp_path / "base"))
    settings = replace(TINY.evolve, start="base")
    run = follow(base, tmp_path / "run", ALL, collect=collecting(0), evolve=settings)
    require(run, "evolve")
    used = ("vae", "mdnrnn", "controller")
    assert read_json(run.folder / "base.json") == {name: base.weights_hash(name) for name in used}
    require(run, "evolve")
    keep(base, part)
    line = complaint(ValueError, require, run, "evolve")
    assert f"{base.folder} was changed since {run.folder} went on from it; restore it" in line


def test_a_v_that_was_changed_since_the_bases_agent_drove_is_refused(tmp_path):
    base = finish(begin(tmp_path / "base"))
    run = follow(base, tmp_path / "run", ("vae",), collect=collecting(0, 3))
    require(run, "collect")
    do(run, "collect")
    keep(base, "vae")
    assert "was changed since" in complaint(ValueError, require, run, "train-mdnrnn")


def test_a_base_that_is_still_being_made_is_not_taken_for_a_changed_one(tmp_path):
    base = begin(tmp_path / "base")
    do(base, "collect")
    settings = replace(TINY.evolve, start="base")
    run = follow(base, tmp_path / "run", ALL, collect=collecting(1), evolve=settings)
    keep(base, "controller")
    require(run, "collect")
    finish(base)
    keep(base, "controller")
    do(run, "collect")
    require(run, "evolve")
    known = read_json(run.folder / "base.json")
    assert known["controller"] == base.weights_hash("controller")

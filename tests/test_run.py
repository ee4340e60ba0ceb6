"""Runs: parts own and kept, bad input in one line each, and those that older versions made."""

import json
from dataclasses import replace

import pytest

from tests.runs import AFTER, ALL, begin, collecting, complaint, do, dreaming, finish, follow, keep
from tests.tiny import TINY
from wmlib import presets
from wmlib.chain import plan
from wmlib.checkpoint import write_json
from wmlib.config import ControllerConfig, OutcomeConfig
from wmlib.config_json import to_dict
from wmlib.run import claim_run, load_config, open_run

# --- parts ----------------------------------------------------------------------------------------


def test_a_part_lies_with_the_run_that_makes_it_and_what_is_kept_with_the_base(tmp_path):
    one = begin(tmp_path / "one")
    two = follow(one, tmp_path / "two", ("episodes", "vae"))
    three = follow(two, tmp_path / "three", ALL, seed=5)
    owners = [three.owner(part) for part in ("vae", "mdnrnn", "controller", "starts")]
    assert owners == [one, two, three, three]
    assert three.part("vae") == tmp_path / "one" / "vae"
    assert [run.owner("vae") for run in (one, two)] == [one, one]
    assert three.kept_from("mdnrnn") == two and three.kept_from("controller") is None
    keep(one, "vae")
    assert three.has("vae") and not three.has("mdnrnn")
    assert three.weights_hash("vae") == one.weights_hash("vae")


@pytest.mark.parametrize(
    "outcome, number, own",
    [
        (AFTER, 2, set()),
        (AFTER, 3, {"mdnrnn_3", "outcome_3"}),
        (replace(AFTER, units=9), 2, {"outcome", "outcome_1", "outcome_2"}),
    ],
)
def test_dreamers_and_outcomes_are_kept_with_m_where_the_base_has_the_same(
    tmp_path, outcome, number, own
):
    base = begin(tmp_path / "base", dreaming(TINY, 2))
    assert base.memories == ["mdnrnn", "mdnrnn_1", "mdnrnn_2"]
    assert base.outcomes == ["outcome", "outcome_1", "outcome_2"]
    run = follow(base, tmp_path / "run", ALL, dreaming(TINY, number, outcome))
    parts = run.memories + run.outcomes
    assert {part for part in parts if run.owner(part) == run} == own
    assert {run.kept_from(part) for part in set(parts) - own} == {base}


def test_a_base_that_drives_awake_has_no_dreamers_to_keep(tmp_path):
    base = begin(tmp_path / "base", mdnrnn=replace(TINY.mdnrnn, outcome=AFTER))
    run = follow(base, tmp_path / "run", ALL, dreaming(TINY, 1))
    assert base.memories == ["mdnrnn"]
    assert {part for part in run.memories + run.outcomes if run.owner(part) == run} == {
        "mdnrnn_1",
        "outcome_1",
    }


def test_an_outcome_that_is_trained_with_m_is_no_part_of_its_own(tmp_path):
    run = begin(tmp_path / "run", dreaming(TINY, 1, OutcomeConfig()))
    assert run.outcomes == [] and run.memories == ["mdnrnn", "mdnrnn_1"]


def test_episodes_of_three_rounds_stand_behind_each_other(tmp_path):
    one = begin(tmp_path / "one")
    two = follow(one, tmp_path / "two", ALL, collect=collecting(2, 1))
    three = follow(two, tmp_path / "three", ALL, seed=5, collect=collecting(0, 4))
    apart = follow(three, tmp_path / "apart", ("vae",), seed=6, collect=collecting(2))
    assert [run.first_episode for run in (one, two, three, apart)] == [0, 6, 9, 0]
    finish(three)
    do(apart, "collect")
    paths = three.episode_paths()
    assert [path.stem for path in paths] == [f"{index:06d}" for index in range(13)]
    folders = [path.parent.parent.name for path in paths]
    assert folders == 6 * ["one"] + 3 * ["two"] + 4 * ["three"]
    assert [path.parent.parent.name for path in apart.episode_paths()] == ["apart"] * 2


def test_encoded_episodes_are_the_bases_where_its_v_and_episodes_are_kept(tmp_path):
    base = finish(begin(tmp_path / "base"))
    base.bind_latents()
    for path in base.episode_paths()[:4]:  # two are still to be encoded
        (base.folder / "latents" / path.name).touch()
    more = follow(base, tmp_path / "more", ("episodes", "vae"), collect=collecting(2))
    do(more, "collect")
    owners = [path.parent.parent.name for path in more.latent_paths()]
    assert owners == 4 * ["base"] + 4 * ["more"]
    assert [path.name for path in more.latent_paths()] == [
        path.name for path in more.episode_paths()
    ]
    other_v = finish(follow(base, tmp_path / "other", ("episodes",)))
    assert {path.parent.parent.name for path in other_v.latent_paths()} == {"other"}


# --- bad input ------------------------------------------------------------------------------------


def refused(kind, folder, config):
    """What a refusal to make a run says, which makes nothing."""
    there = sorted(folder.parent.rglob("*"))
    line = complaint(kind, claim_run, folder, config)
    assert sorted(folder.parent.rglob("*")) == there
    return line


def test_a_base_that_is_missing_is_named(tmp_path):
    config = replace(TINY, after=str(tmp_path / "gone"), seed=4)
    line = refused(FileNotFoundError, tmp_path / "run", config)
    gone = tmp_path / "gone"
    assert f"{gone} holds no run" in line and f"python -m wmlib collect --run {gone}" in line
    write_json(tmp_path / "run" / "config.json", to_dict(config))
    run = open_run(tmp_path / "run")
    line = complaint(FileNotFoundError, lambda: run.base)
    assert f"{run.folder} goes on from {gone}, which holds no run; restore it, or" in line


def test_a_base_within_the_run_that_is_missing_is_named_with_the_command(tmp_path):
    write_json(tmp_path / "config.json", to_dict(replace(TINY, after="first")))
    run = open_run(tmp_path)
    line = complaint(FileNotFoundError, lambda: run.base)
    assert f"goes on from {tmp_path / 'first'}, which holds no run" in line
    assert line.endswith(f"run {run.command('agent')}")


def test_a_circle_of_bases_is_named(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    for folder, after in ((a, b), (b, c)):
        write_json(folder / "config.json", to_dict(replace(TINY, after=str(after))))
    closing = replace(TINY, after=str(a), seed=4)
    line = refused(ValueError, c, closing)
    assert f"goes on from itself: {c} -> {a} -> {b} -> {c}; correct `after`" in line
    write_json(c / "config.json", to_dict(closing))
    assert "goes on from itself" in complaint(ValueError, open_run, b)
    itself = refused(ValueError, tmp_path / "d", replace(TINY, after=str(tmp_path / "d"), seed=4))
    assert "goes on from itself" in itself


def test_no_preset_goes_on_from_itself():
    for name in ("quick", "laptop", "paper", "v-only", "first"):
        names = [name]
        while (below := presets.get_preset(names[-1]).after) is not None:
            names.append(below)
            assert len(set(names)) == len(names)


def test_a_round_that_keeps_a_v_and_brings_latents_of_another_is_refused(tmp_path):
    base = finish(begin(tmp_path / "base"))
    run = follow(base, tmp_path / "run", ("vae",), collect=collecting(1))
    do(run, "collect")
    write_json(run.folder / "latents" / "meta.json", {"vae_sha256": "another"})
    there = sorted(tmp_path.rglob("*"))
    for ask in (lambda: run.latents, run.bind_latents, run.latent_paths):
        line = complaint(ValueError, ask)
        assert f"{run.folder / 'latents'} belongs to another V than the one in" in line
        assert f"in {base.folder / 'vae'}; delete all but config.json, episodes and vae" in line
        assert f"then run {run.command('train-mdnrnn')} again" in line
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize(
    "what, config",
    [
        ("vae", replace(TINY, vae=replace(TINY.vae, z_size=5))),
        ("mdnrnn", replace(TINY, mdnrnn=replace(TINY.mdnrnn, hidden_size=17))),
        ("mdnrnn", replace(TINY, mdnrnn=replace(TINY.mdnrnn, outcome=OutcomeConfig()))),
        ("task", replace(TINY, task="toy")),
    ],
)
def test_what_is_kept_must_be_configured_as_the_base_has_it(tmp_path, what, config):
    base = begin(tmp_path / "base")
    config = replace(config, after=str(base.folder), keeps=ALL, seed=4)
    line = refused(ValueError, tmp_path / "run", config)
    assert f"{what} is kept of the run in {base.folder}, but configured otherwise" in line
    assert "take over its values, or don't keep it" in line
    if what != "task":
        claim_run(tmp_path / "run", replace(config, keeps=()))


def test_rounds_have_seeds_of_their_own(tmp_path):
    base = begin(tmp_path / "base")
    config = replace(TINY, after=str(base.folder))
    line = refused(ValueError, tmp_path / "run", config)
    assert f"seed 3 is the base's too, in {base.folder}; choose another" in line
    still = replace(config, keeps=ALL, collect=collecting(0))
    claim_run(tmp_path / "run", still)  # another C on the same V and M


def test_a_file_that_dreams_of_an_m_without_outcome_is_named(tmp_path):
    values = to_dict(TINY)
    values["evolve"]["world"] = "dream"
    write_json(tmp_path / "config.json", values)
    line = complaint(ValueError, open_run, tmp_path)
    assert line.startswith(f"{tmp_path / 'config.json'}: world='dream' needs an M with an outcome")


def test_a_configuration_of_the_future_is_named_with_what_to_do(tmp_path):
    write_json(tmp_path / "config.json", to_dict(TINY) | {"sleeps": 8})
    line = complaint(ValueError, load_config, tmp_path)
    assert line.startswith(f"{tmp_path / 'config.json'}: a configuration of another version")
    assert "Config has unknown entries: sleeps; update this package by git pull, or start" in line


# --- runs of older versions -----------------------------------------------------------------------

# What commit 0ced31d wrote, and the last one before rounds (e52a6bf); shortened are only its names.
QUICK = """{"preset": "quick", "seed": 0,
"collect": {"episodes": 24, "max_steps": 300, "policy": "brownian"},
"vae": {"z_size": 32, "kl_tolerance": 0.5, "batch_size": 32, "learning_rate": 0.001, "steps": 350},
"mdnrnn": {"hidden_size": 256, "num_mixtures": 5, "batch_size": 16, "sequence_length": 64,
"learning_rate": 0.002, "gradient_clip": 1.0, "steps": 200},
"evolve": {"popsize": 16, "tracks": 2, "generations": 10, "sigma0": 0.1, "sigma_end": 0.05,
"decay": 10, "max_steps": 300, "select_every": 4, "select_tracks": 8, "patience": 60},
"evaluate": {"episodes": 10}}"""
LAPTOP = """{"preset": "laptop", "seed": 0,
"collect": {"episodes": 350, "max_steps": 1000, "policy": "brownian", "first_round": "first",
"agent_episodes": 160},
"vae": {"z_size": 32, "kl_tolerance": 0.5, "batch_size": 50, "learning_rate": 0.001, "steps": 5000,
"learning_rate_end": 0.0},
"mdnrnn": {"hidden_size": 256, "num_mixtures": 5, "batch_size": 64, "sequence_length": 100,
"learning_rate": 0.01, "gradient_clip": 1.0, "steps": 2400, "outcome": false,
"learning_rate_end": 0.0, "look_ahead": 8},
"evolve": {"popsize": 64, "tracks": 2, "generations": 81, "sigma0": 0.14, "sigma_end": 0.03,
"decay": 36, "max_steps": 1000, "select_every": 3, "select_tracks": 64, "patience": 100,
"world": "real", "temperature": 1.0, "halving": [2, 6], "first_steps": 300, "growth": 12,
"finish_from": 51}, "evaluate": {"episodes": 100},
"controller": {"reads": "mu h", "hidden_size": 0, "bias": true}, "task": "car_racing"}"""


def test_a_run_of_0ced31d_loads_and_goes_on(tmp_path):
    (tmp_path / "config.json").write_text(QUICK)
    run = open_run(tmp_path)
    assert run.config == presets.QUICK and run.base is None
    assert claim_run(tmp_path, presets.QUICK) == run


def test_a_run_with_its_first_round_within_loads_and_goes_on(tmp_path):
    first = json.loads(QUICK) | {"preset": "first", "seed": 1}  # not as today's preset
    for folder, text in ((tmp_path, LAPTOP), (tmp_path / "first", json.dumps(first))):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(text)
    run = open_run(tmp_path)
    assert run.config == presets.LAPTOP and run.config.after == "first"
    assert run.base.folder == tmp_path / "first" and run.base.config.seed == 1
    assert run.first_episode == 0 and run.owner("vae") == run
    texts = [path.read_bytes() for path in sorted(tmp_path.rglob("config.json"))]
    assert claim_run(tmp_path, presets.LAPTOP) == run
    assert [path.read_bytes() for path in sorted(tmp_path.rglob("config.json"))] == texts
    assert plan(run)[0] == (run.base, "collect") and plan(run)[-1] == (run, "evolve")
    finish(run.base)
    assert {one for one, _ in plan(run)} == {run}


def test_an_outcome_that_was_learnt_on_another_m_is_refused(tmp_path):
    run = finish(begin(tmp_path / "run", replace(TINY, mdnrnn=replace(TINY.mdnrnn, outcome=AFTER))))
    for part in run.outcomes:
        meta = run.part(part) / "meta.json"
        write_json(meta, {"mdnrnn_sha256": "another"})
    line = complaint(ValueError, run.check_memory)
    assert "outcome was trained on another M" in line and run.command("train-mdnrnn") in line


def test_a_run_that_no_preset_made_goes_on_without_one(tmp_path):
    own = begin(tmp_path / "z alone 0", replace(TINY, preset="my own"))
    assert own.command("evolve") == f"python -m wmlib evolve --run '{own.folder}'"


def test_a_search_that_begins_at_the_bases_c_has_that_c(tmp_path):
    base = finish(begin(tmp_path / "base"))
    scrambled = ControllerConfig(reads="h z")
    begins = replace(TINY.evolve, start="base")
    with pytest.raises(ValueError, match="reads or is built otherwise.*begin at zero"):
        follow(base, tmp_path / "run", ("vae", "mdnrnn"), controller=scrambled, evolve=begins)

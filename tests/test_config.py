"""The hyperparameters: presets, their way through JSON, and the ranges of track seeds."""

import json
from dataclasses import FrozenInstanceError, asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import pytest

from wmlib import config, presets
from wmlib.config_json import _build, differences, from_dict, to_dict
from wmlib.presets import PRESETS, QUICK, V_ONLY

RANGES = {
    name: getattr(config, name)
    for name in ("COLLECT_SEEDS", "EVOLVE_SEEDS", "SELECT_SEEDS", "EVALUATE_SEEDS")
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_found_under_its_own_name(name):
    assert presets.get_preset(name).preset == name


def test_the_presets_are_quick_laptop_and_paper():
    assert list(PRESETS)[:3] == ["quick", "laptop", "paper"]


def test_an_unknown_preset_is_refused_with_the_list_of_those_there_are():
    with pytest.raises(ValueError, match="no preset 'fast'.*quick, laptop, paper"):
        presets.get_preset("fast")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_json_unchanged(name):
    preset = PRESETS[name]
    assert from_dict(json.loads(json.dumps(to_dict(preset)))) == preset


def test_rungs_of_halving_come_back_from_json_as_they_were():
    racing = replace(QUICK, evolve=replace(QUICK.evolve, halving=(2, 4)))
    assert from_dict(json.loads(json.dumps(to_dict(racing)))) == racing


def test_a_preset_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        QUICK.vae.steps = 1


def test_an_older_run_loads_with_what_it_lacks_at_the_defaults():
    values = to_dict(QUICK)
    del values["task"], values["controller"], values["mdnrnn"]["outcome"]
    del values["evolve"]["world"], values["evolve"]["dream"], values["evolve"]["start"]
    del values["after"], values["keeps"]
    assert from_dict(values) == QUICK


def test_an_older_run_without_m_had_a_controller_that_reads_z():
    values = to_dict(V_ONLY)
    del values["controller"]
    assert from_dict(values) == V_ONLY


@pytest.mark.parametrize(
    "older, newer", [(True, config.OutcomeConfig()), (False, None)], ids=["outcome", "none"]
)
def test_an_older_runs_outcome_and_temperature_are_read_as_they_were_meant(older, newer):
    values = to_dict(dreaming() if older else QUICK)
    values["mdnrnn"]["outcome"] = older
    values["evolve"]["temperature"] = 1.3
    del values["evolve"]["dream"]
    found = from_dict(values)
    assert found.mdnrnn.outcome == newer
    assert found.evolve.dream == config.DreamConfig(temperature=1.3)


@dataclass(frozen=True)
class Stop:
    """One of several in a Journey."""

    town: str
    days: int = 1


@dataclass(frozen=True)
class Journey:
    """A configuration with a tuple of dataclasses, of which there is none yet."""

    stops: tuple[Stop, ...]
    numbers: tuple[int, ...] = ()


def test_a_tuple_of_dataclasses_comes_back_from_json_as_one():
    journey = Journey((Stop("Ulm"), Stop("Bern", 3)), (1, 2))
    assert _build(Journey, json.loads(json.dumps(asdict(journey)))) == journey


def test_an_unknown_entry_of_a_dataclass_in_a_tuple_is_named():
    with pytest.raises(ValueError, match="another version: Stop has unknown entries: inn"):
        _build(Journey, {"stops": [{"town": "Ulm", "inn": "Ox"}]})


def test_an_older_runs_step_size_decayed_until_its_last_generation():
    values = to_dict(QUICK)
    del values["evolve"]["decay"]
    assert from_dict(values).evolve.decay == QUICK.evolve.generations


def dreaming():
    """QUICK with an M that tells the outcome, and a C that learns in its dreams."""
    mdnrnn = replace(QUICK.mdnrnn, outcome=config.OutcomeConfig())
    return replace(QUICK, mdnrnn=mdnrnn, evolve=replace(QUICK.evolve, world="dream"))


CONTRADICTIONS = {
    "first_steps lies between 1 and max_steps: got first_steps=301": lambda: replace(
        QUICK.evolve, first_steps=301, growth=3
    ),
    "patience is 1 step or more": lambda: replace(QUICK.evolve, patience=0),
    "drives 40 hard tracks, hard=32": lambda: replace(QUICK.evolve, finish_from=5, tracks=80),
    "V's z_size, batch_size and steps are at least 1": lambda: replace(QUICK.vae, steps=0),
    "M's sizes and its steps are at least 1": lambda: replace(QUICK.mdnrnn, steps=0),
    "evaluation takes 1 episode or more, got 0": lambda: replace(QUICK.evaluate, episodes=0),
    "a finish needs sigma_end, the real world": lambda: replace(QUICK.evolve, finish_from=10),
    "a finish needs sigma_end": lambda: replace(
        QUICK.evolve, finish_from=5, sigma_end=None, decay=None
    ),
    "a finish needs sigma_end, the real": lambda: replace(
        QUICK.evolve, finish_from=5, world="dream"
    ),
    "sigma_end and decay go together": lambda: replace(QUICK.evolve, decay=None),
    "sigma_end and decay go together: got sigma_end=None": lambda: replace(
        QUICK.evolve, sigma_end=None
    ),
    "sigma_end and decay go together: got sigma_end=0.05, decay=0": lambda: replace(
        QUICK.evolve, decay=0
    ),
    "popsize is at least 2, every other number at least 1": lambda: replace(
        QUICK.evolve, popsize=1
    ),
    "every other number at least 1": lambda: replace(QUICK.evolve, select_every=0),
    "step sizes are positive": lambda: replace(QUICK.evolve, sigma_end=-0.05),
    "first_steps and growth go together: got first_steps=300": lambda: replace(
        QUICK.evolve, first_steps=300
    ),
    "look_ahead is at least 2 and within sequence_length, got 1": lambda: replace(
        QUICK.mdnrnn, look_ahead=1
    ),
    "look_ahead is at least 2 and within sequence_length, got 65": lambda: replace(
        QUICK.mdnrnn, look_ahead=65
    ),
    "each rung of halving has 1 track or more": lambda: replace(QUICK.evolve, halving=(2, 0)),
    "no world 'mars'; choose real or dream": lambda: replace(QUICK.evolve, world="mars"),
    "no start 'here'; choose zero or base": lambda: replace(QUICK.evolve, start="here"),
    "hard tracks are some of those scouted": lambda: replace(QUICK.evolve, hard=9, scouted=8),
    "temperature must be a positive number": lambda: config.DreamConfig(temperature=0.0),
    "dreams begin at 'first' .* got 'last'": lambda: config.DreamConfig(begin="last"),
    "dreams need 1 place to begin or more, got starts=0": lambda: config.DreamConfig(starts=0),
    "dreamers are 0 or more, got -1": lambda: config.DreamConfig(dreamers=-1),
    "dropout is a share from 0 to below 1, got 1": lambda: config.DreamConfig(dropout=1),
    "trained 'with' M or 'after' it, got 'before'": lambda: config.OutcomeConfig("before"),
    "odd numbers: .*steps=0": lambda: config.OutcomeConfig(steps=0),
    "numbers of episodes are 0 or more, got .24, -1.": lambda: replace(
        QUICK.collect, agent_episodes=-1
    ),
    "no policy 'brown'; choose one of uniform": lambda: replace(QUICK.collect, policy="brown"),
    "C reads each of mu, z, h, c .* got reads='z q'": lambda: config.ControllerConfig("z q"),
    "C reads each of mu, z, h, c .* got reads='h h'": lambda: config.ControllerConfig("h h"),
    "C reads each of mu, z, h, c .* got reads=''": lambda: config.ControllerConfig(""),
    "mu or z, .* not both": lambda: config.ControllerConfig("mu z"),
    "hidden_size=-1": lambda: config.ControllerConfig(hidden_size=-1),
    "C reads 'z h', but there is no M": lambda: replace(QUICK, mdnrnn=None),
    "world='dream' needs an M with an outcome": lambda: replace(
        QUICK, evolve=replace(QUICK.evolve, world="dream")
    ),
    "keeps some of episodes, vae, mdnrnn, got .'controller',": lambda: replace(
        QUICK, after="first", keeps=("controller",)
    ),
    "need a run to go on from: name it in after": lambda: replace(QUICK, keeps=("vae",)),
    "agent_episodes and start='base' need a run": lambda: replace(
        QUICK, collect=replace(QUICK.collect, agent_episodes=3)
    ),
    "start='base' need a run to go on from": lambda: replace(
        QUICK, evolve=replace(QUICK.evolve, start="base")
    ),
    "keep vae with mdnrnn": lambda: replace(QUICK, after="first", keeps=("mdnrnn",)),
    "keeps an M and has none": lambda: replace(V_ONLY, keeps=("vae", "mdnrnn")),
    "nothing to train on: collect episodes, or keep the base's": lambda: replace(
        QUICK, after="first", collect=replace(QUICK.collect, episodes=0)
    ),
    "dreams begin at episodes: collect some, or keep the base's": lambda: replace(
        dreaming(),
        after="first",
        keeps=("vae", "mdnrnn"),
        collect=replace(QUICK.collect, episodes=0),
    ),
}


@pytest.mark.parametrize("complaint, make", CONTRADICTIONS.items())
def test_a_contradiction_is_refused_when_the_configuration_is_built(complaint, make):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_contradiction_in_a_file_is_refused_too():
    values = to_dict(QUICK)
    values["evolve"]["decay"] = None
    with pytest.raises(ValueError, match="sigma_end and decay go together"):
        from_dict(values)


def test_an_unknown_entry_is_named():
    values = to_dict(QUICK)
    values["vae"]["beta"] = 4
    with pytest.raises(ValueError, match="another version: VAEConfig has unknown entries: beta"):
        from_dict(values)


@pytest.mark.parametrize(
    "stage, entry", [("controller", {"reads": 3}), ("evolve", {"dream": {"temperature": "1"}})]
)
def test_an_entry_of_an_odd_type_is_a_value_error(stage, entry):
    values = to_dict(QUICK)
    values[stage] |= entry
    with pytest.raises(ValueError, match="another version: .* has an odd entry"):
        from_dict(values)


def test_a_missing_entry_is_named():
    values = to_dict(QUICK)
    del values["evolve"]["popsize"]
    with pytest.raises(ValueError, match="EvolveConfig has missing entries: popsize"):
        from_dict(values)


def test_a_missing_stage_is_named():
    values = to_dict(QUICK)
    del values["mdnrnn"]
    with pytest.raises(ValueError, match="Config.*mdnrnn"):
        from_dict(values)


def test_a_stage_that_is_no_object_is_a_value_error():
    with pytest.raises(ValueError, match="vae|VAEConfig"):
        from_dict(to_dict(QUICK) | {"vae": 3})


def test_a_config_does_not_differ_from_itself():
    assert differences(QUICK, QUICK) == []


def test_differences_name_the_entry_and_both_values():
    other = replace(QUICK, seed=7, vae=replace(QUICK.vae, steps=9))
    assert differences(QUICK, other) == [
        "seed: 0 != 7",
        f"vae.steps: {QUICK.vae.steps} != 9",
    ]


@pytest.mark.parametrize("one, other", list(combinations(RANGES, 2)))
def test_ranges_of_track_seeds_never_meet(one, other):
    assert not range(
        max(RANGES[one].start, RANGES[other].start), min(RANGES[one].stop, RANGES[other].stop)
    )


@pytest.mark.parametrize("name", RANGES)
def test_track_seeds_are_plain_integers_inside_their_range(name):
    seeds = config.track_seeds(RANGES[name], (0, 1), 200)
    assert len(seeds) == 200
    assert all(type(seed) is int and seed in RANGES[name] for seed in seeds)


def test_track_seeds_depend_on_their_key_alone():
    first = config.track_seeds(config.EVOLVE_SEEDS, (3, 5), 8)
    assert config.track_seeds(config.EVOLVE_SEEDS, (3, 5), 8) == first
    assert config.track_seeds(config.EVOLVE_SEEDS, (3, 6), 8) != first
    assert config.track_seeds(config.EVOLVE_SEEDS, (4, 5), 8) != first


def test_a_relative_path_lies_under_the_repository_whatever_the_working_directory(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = Path(config.__file__).parent.parent
    assert config.resolve("data/pretrained") == root / "data" / "pretrained"


def test_an_absolute_path_stays_as_it_is(tmp_path):
    assert config.resolve(tmp_path) == tmp_path

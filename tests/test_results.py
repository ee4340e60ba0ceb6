"""What ships in data/ and stands in README belongs together."""

import json
import re

import numpy as np
import pytest

from figures.draw import score_text
from wmlib.agent import Agent
from wmlib.checkpoint import file_hash, load_weights, read_json
from wmlib.config import EVALUATE_SEEDS, resolve
from wmlib.data import EpisodeStore, load_episode
from wmlib.evaluate import summarise
from wmlib.evolve import replay
from wmlib.run import open_run
from wmlib.widgets import DreamPlayer

PRETRAINED = resolve("data/pretrained/car_racing")
RESULTS = resolve("data/results/car_racing.json")
# Measured before results kept their code's hash. One that is measured again leaves this list.
OLDER = {
    "bench_agent",
    "bench_collect",
    "bench_dream",
    "bench_drivers",
    "bench_env",
    "bench_horizon",
    "bench_mdnrnn",
    "bench_memory",
    "bench_models",
    "bench_outcome",
    "bench_pixels",
    "bench_policies",
    "bench_predictions",
    "bench_quick",
    "bench_recipe",
    "bench_reconstruction",
    "bench_store",
    "bench_vae",
    "car_racing",
    "collect_laptop",
    "v_only",
}


def test_the_shipped_agent_has_the_papers_sizes():
    agent = Agent.load(PRETRAINED)
    assert sum(weights.numel() for weights in agent.vae.parameters()) == 4_348_547
    assert (
        sum(weights.numel() for weights in agent.mdnrnn.parameters() if weights.requires_grad)
        == 422_368
    )
    assert agent.params.shape == (1, 867)


def test_the_results_are_about_the_weights_that_ship():
    results = read_json(RESULTS)
    assert results["weights_sha256"] == {
        part: file_hash(PRETRAINED / part / "weights.safetensors")
        for part in ("vae", "mdnrnn", "controller")
    }


def test_the_results_summary_follows_from_its_returns():
    results = read_json(RESULTS)
    assert results["first_seed"] in EVALUATE_SEEDS
    for policy in ("agent", "random_policy"):
        found = summarise(results[policy]["returns"])
        for name in ("episodes", "mean", "std", "interval"):
            assert found[name] == pytest.approx(results[policy][name])
    assert results["agent"]["mean"] > results["random_policy"]["mean"]


def test_the_shipped_controller_is_the_mean_that_its_log_leads_to():
    chosen = read_json(PRETRAINED / "controller" / "meta.json").get(
        "chosen"
    )  # the last one, where it does not say
    search = replay(open_run(PRETRAINED), chosen)
    assert np.allclose(search.mean, Agent.load(PRETRAINED).params[0].numpy(), atol=1e-6)


def test_the_v_only_car_drives_on_the_v_that_ships():
    folder, results = (
        resolve("data/pretrained/car_racing_v_only"),
        read_json(resolve("data/results/v_only.json")),
    )
    run = open_run(folder)
    assert load_weights(folder / "controller")["params"].shape == (99,)
    assert run.config.mdnrnn is None and run.part("vae") == PRETRAINED / "vae"
    hashes = {
        "vae": file_hash(PRETRAINED / "vae" / "weights.safetensors"),
        "controller": file_hash(folder / "controller" / "weights.safetensors"),
    }
    assert results["weights_sha256"] == hashes and read_json(
        folder / "controller" / "inputs.json"
    ) == {"vae": hashes["vae"]}
    assert np.allclose(
        replay(run).mean,
        load_weights(folder / "controller")["params"].numpy(),
        atol=1e-6,
    )
    assert (
        results["random_policy"]["mean"]
        < results["agent"]["mean"]
        < read_json(RESULTS)["agent"]["mean"]
    )


def test_v_keeps_more_of_road_and_car_than_components_and_the_scripts_v():
    table = read_json(resolve("data/results/bench_reconstruction.json"))
    assert table["weights_sha256"] == file_hash(PRETRAINED / "vae" / "weights.safetensors")
    for found in table["frames"].values():
        error = found["squared_error"]
        for row in error.values():
            assert row["all"] == pytest.approx(row["road"] + row["car"] + row["rest"], rel=1e-4)
        for peer in ("32 components", "the script's V"):
            assert error["V"]["road"] < 0.8 * error[peer]["road"]
        assert sum(found["code"]["V"]["kl_per_latent"]) == pytest.approx(found["code"]["V"]["kl"])


def test_what_m_knows_was_asked_of_the_m_that_ships_and_the_controls_do_as_they_must():
    table = read_json(resolve("data/results/bench_memory.json"))
    assert table["mdnrnn_sha256"] == file_hash(PRETRAINED / "mdnrnn" / "weights.safetensors")
    for found in table["drives"].values():
        share = found["share_explained"]
        assert (
            share["last steering"]["last action"] > 0.999
            and share["last gas"]["last action"] > 0.999
        )
        assert (
            share["turning"]["h"] > share["turning"]["z"]
            and share["turning"]["h"] > share["turning"]["last action"]
        )


def test_the_outcome_was_learnt_on_the_m_that_ships_and_judged_as_it_ships():
    table, folder = read_json(resolve("data/results/bench_outcome.json")), PRETRAINED / "outcome"
    assert table["outcome_sha256"] == file_hash(folder / "weights.safetensors")
    hashes = {
        part: file_hash(PRETRAINED / part / "weights.safetensors") for part in ("vae", "mdnrnn")
    }
    assert read_json(folder / "meta.json")["inputs_sha256"] == hashes
    for found in table["drives"].values():
        expected, paid = found["reward_a_second"].values()
        assert found["share_of_reward"]["a second"] > 0.4 and abs(expected - paid) < 0.1 * abs(paid)


def test_how_long_dreams_stay_true_was_asked_of_the_weights_that_ship_and_is_the_players_line():
    table = read_json(resolve("data/results/bench_horizon.json"))
    parts = ("vae", "mdnrnn")
    assert table["weights_sha256"] == {
        part: file_hash(PRETRAINED / part / "weights.safetensors") for part in parts
    }
    assert round(table["drives"]["the agent's"]["half"], 2) == DreamPlayer.PARTED
    for found in table["drives"].values():
        rows, lives = found["rows"], found["half_life"]
        middle = (
            np.mean(rows["V alone"]["overlap"]) + np.mean(rows["another moment"]["overlap"])
        ) / 2
        assert found["half"] == pytest.approx(middle)
        assert lives["V alone"] is None and lives["another moment"] == 1
        for name in set(rows) - {"V alone", "another moment"}:
            assert np.interp(lives[name], table["steps"], rows[name]["overlap"]) == pytest.approx(
                found["half"], abs=1e-6
            )
        assert max(row["standard_error"][0] for row in rows.values()) < 0.05


def test_dreams_judged_the_drivers_with_the_weights_that_ship():
    table = read_json(resolve("data/results/bench_drivers.json"))
    for part, found in table["weights_sha256"].items():
        assert found == file_hash(PRETRAINED / part / "weights.safetensors")
    assert len(table["weights_sha256"]) == 4
    for row in table["dreams"].values():
        low, high = row["interval_90"]
        assert (
            len(row["returns"]) == len(table["real"]) == table["drivers"]
            and low < row["spearman"] < high
        )


def test_a_dream_runs_at_twenty_times_the_real_ones_rate_or_more():
    assert (
        max(read_json(resolve("data/results/bench_dream.json"))["times_as_many_as_real"].values())
        > 20
    )


def test_m_trains_faster_than_the_scripts_loop_and_the_plain_one():
    for row in table_of("mdnrnn")["sizes"].values():
        ratios = row["threads"]["1"]["ours_times_as_fast_as"]
        assert ratios["script"] > 5 and ratios["plain"] > 1


def test_what_m_buys_was_asked_of_the_weights_that_ship():
    table = table_of("predictions")
    for part, found in table["weights_sha256"].items():
        assert found == file_hash(PRETRAINED / part / "weights.safetensors")
    for found in table["drives"].values():
        nats = {row: steps["1"]["used"] for row, steps in found["nats"]["z"].items()}
        assert max(nats["M"]) < min(nats["linear"] + nats["z repeated"] + nats["M, memory emptied"])
        assert min(map(min, nats.values())) == nats["entropy of the draw"][0]
        for shares in found["calibration"].values():
            assert sum(shares["shares"]) == pytest.approx(1)
            worst = max(abs(share - 0.1) for share in shares["shares"])
            assert worst == pytest.approx(shares["largest_deviation"], abs=1e-6)


def table_of(name):
    """The saved numbers of a bench; until they are measured there is nothing to compare."""
    path = resolve(f"data/results/bench_{name}.json")
    if not path.exists():
        pytest.skip(f"not measured yet: python -m bench {name} --save")
    return read_json(path)


def test_each_result_says_by_which_committed_code_it_was_made():
    found = {path.stem: read_json(path) for path in RESULTS.parent.glob("*.json")}
    assert not any("code_sha256" in found[name] for name in OLDER)
    for name in {*found} - OLDER - {"paper"}:
        assert re.fullmatch("[0-9a-f]{64}", found[name]["code_sha256"]), name
        assert re.fullmatch("[0-9a-f]{40}", found[name]["commit"]), name


def test_v_trains_faster_than_the_scripts_loop_and_the_plain_one():
    assert min(table_of("vae")["ours_times_as_fast_as"].values()) > 1


def test_the_readme_tells_the_measured_score():
    assert score_text() in resolve("README.md").read_text()


def test_the_sample_of_episodes_is_whole_and_described():
    paths = EpisodeStore(resolve("data/episodes")).paths()
    meta = json.loads(resolve("data/episodes/meta.json").read_text())
    assert meta["sha256"] == {path.name: file_hash(path) for path in paths}
    assert all(len(load_episode(path)) >= 200 for path in paths)

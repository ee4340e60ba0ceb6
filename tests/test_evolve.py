"""The race inside a generation, what CMA-ES is told of it, and the horizon that grows."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.tiny import TINY
from wmlib import chain, checkpoint, cli, evolve, plots
from wmlib.config import EVOLVE_SEEDS
from wmlib.evolve import Search, horizon, race, rank_values, replay
from wmlib.run import Run

RACING = replace(TINY, evolve=replace(TINY.evolve, halving=(1, 4)))


@pytest.fixture
def scored(monkeypatch):
    """Candidates score their first parameter plus a tenth of the rung on every track; what was asked for is noted."""
    asked = []

    def score(run, settings, candidates, seeds, noise, rung=0):
        asked.append((candidates[:, 0].tolist(), seeds, settings.max_steps, (noise, rung)))
        return np.repeat(candidates[:, :1] + rung / 10, len(seeds), axis=1)

    monkeypatch.setattr(evolve, "score_candidates", score)
    return asked


def population(*scores):
    return np.array([[score, 0.0] for score in scores])


def test_the_better_half_drives_more_tracks_and_its_better_half_more_still(scored, tmp_path):
    fitness, rungs = race(Run(tmp_path, RACING), population(5, 1, 9, 3, 7, 2, 8, 4, 6), 3, [])
    assert [row[0] for row in scored] == [[5, 1, 9, 3, 7, 2, 8, 4, 6], [5, 9, 7, 8, 6], [9, 7, 8]]
    assert rungs.tolist() == [1, 0, 2, 0, 2, 0, 2, 0, 1]
    # 2 tracks at the first parameter, 1 at a tenth more, 4 at two tenths more
    expected = [5 + 0.1 / 3, 1, 9 + 0.9 / 7, 3, 7 + 0.9 / 7, 2, 8 + 0.9 / 7, 4, 6 + 0.1 / 3]
    assert fitness == pytest.approx(expected)


def test_no_track_is_driven_twice_in_a_generation_and_all_candidates_of_a_rung_share_theirs(
    scored, tmp_path
):
    race(Run(tmp_path, RACING), population(*range(9)), 3, [])
    seeds = [row[1] for row in scored]
    assert [len(row) for row in seeds] == [2, 1, 4] and len(
        {seed for row in seeds for seed in row}
    ) == 7
    assert all(seed in EVOLVE_SEEDS for row in seeds for seed in row)
    assert len({row[3] for row in scored}) == 3  # and each rung has noise of its own


def test_without_halving_all_candidates_drive_the_same_tracks_once(scored, tmp_path):
    fitness, rungs = race(Run(tmp_path, TINY), population(3, 1, 2), 0, [])
    assert fitness.tolist() == [3, 1, 2] and not rungs.any() and len(scored) == 1


def test_every_second_track_of_the_finish_is_a_hard_one(scored, tmp_path):
    for hard in ([], [1, 2, 3, 4]):
        race(Run(tmp_path / str(len(hard)), RACING), population(*range(9)), 3, hard)
    fresh, drawn = (sum((row[1] for row in rows), []) for rows in (scored[:3], scored[3:]))
    assert drawn[::2] == fresh[::2] and len(set(drawn[1::2]) & {1, 2, 3, 4}) == 3


FINISH = replace(
    RACING, evolve=replace(RACING.evolve, generations=6, finish_from=2, sigma_end=0.2, decay=2)
)


def test_in_the_finish_the_step_size_falls_evenly_to_half():
    search = Search(FINISH.evolve, 2, seed=0)
    sizes = []
    for _ in range(6):
        search.tell(search.ask(), np.arange(FINISH.evolve.popsize))
        sizes.append(search.strategy.sigma)
    assert sizes[1:] == pytest.approx([0.2, 0.2 / 2**0.25, 0.2 / 2**0.5, 0.2 / 2**0.75, 0.1])


def test_scouting_finds_the_worst_tracks_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    driven = []

    def score(run, mean, seeds):
        if len(driven) == 384:
            driven.append(None)
            raise KeyboardInterrupt
        driven.extend(seeds)
        return [float(seed) for seed in seeds]  # the lowest seeds are the hardest

    monkeypatch.setattr(evolve, "score_mean", score)
    monkeypatch.setattr(
        evolve, "replay", lambda run, generations: Search(run.config.evolve, 2, generations)
    )
    (tmp_path / "controller").mkdir()
    run = Run(tmp_path, FINISH)
    with pytest.raises(KeyboardInterrupt):
        evolve.scout(run)
    found = evolve.scout(run)
    driven.remove(None)
    assert len(driven) == len(set(driven)) == 1024 and set(driven) <= set(EVOLVE_SEEDS)
    assert found == sorted(driven)[:32] == evolve.scout(run)


def test_those_who_raced_longer_rank_first_and_then_the_fitter():
    fitness, rungs = np.array([900.0, 10.0, 20.0, -5.0]), np.array([0, 1, 1, 2])
    assert np.argsort(-rank_values(fitness, rungs)).tolist() == [3, 2, 1, 0]
    assert rank_values(fitness, np.zeros(4, int)).tolist() == fitness.tolist()


def test_a_candidate_whose_return_is_no_number_is_ranked_last_and_drops_out_of_the_race(
    scored, tmp_path
):
    fitness, rungs = race(Run(tmp_path, RACING), population(1, np.nan, 3, 2), 0, [])
    assert np.isnan(fitness[1]) and rungs.tolist() == [0, 0, 2, 1]
    assert np.argmin(rank_values(fitness, rungs)) == 1


@pytest.mark.parametrize("generation, steps", [(0, 300), (7, 650), (14, 1000), (50, 1000)])
def test_the_horizon_grows_evenly_to_its_end(generation, steps):
    settings = replace(TINY.evolve, max_steps=1000, first_steps=300, growth=14)
    assert horizon(settings, generation) == steps
    assert horizon(replace(settings, first_steps=None, growth=None), generation) == 1000


def test_the_race_is_driven_under_the_generations_horizon(scored, tmp_path):
    growing = replace(RACING, evolve=replace(RACING.evolve, max_steps=40, first_steps=10, growth=3))
    race(Run(tmp_path, growing), population(*range(4)), 1, [])
    assert [row[2] for row in scored] == [20, 20, 20]


def test_what_a_stopped_generation_has_driven_is_not_driven_again(scored, tmp_path, monkeypatch):
    candidates, spoilt = population(5, np.nan, 9, 3, 7), evolve.score_candidates
    whole = race(Run(tmp_path / "whole", RACING), candidates, 3, [])

    def stop_in_rung_2(*args):
        if args[-1] == 2:
            raise KeyboardInterrupt
        return spoilt(*args)

    monkeypatch.setattr(evolve, "score_candidates", stop_in_rung_2)
    with pytest.raises(KeyboardInterrupt):
        race(Run(tmp_path, RACING), candidates, 3, [])
    monkeypatch.setattr(evolve, "score_candidates", spoilt)
    scored.clear()
    fitness, rungs = race(Run(tmp_path, RACING), candidates, 3, [])
    assert [row[3] for row in scored] == [(3, 2)]
    assert np.array_equal(fitness, whole[0], equal_nan=True) and np.array_equal(rungs, whole[1])
    scored.clear()
    race(Run(tmp_path, RACING), candidates, 4, [])
    assert [row[3] for row in scored] == [(4, 0), (4, 1), (4, 2)]  # another generation begins anew


def test_a_log_with_rungs_and_a_null_replays_to_the_same_mean(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(evolve, "_check_inputs", lambda run: None)
    monkeypatch.setattr(evolve, "score_mean", lambda *args: [0.0])
    monkeypatch.setattr(evolve, "_save_mean", lambda *args: None)
    spoilt = evolve.score_candidates

    def score(run, settings, candidates, *rest):
        spoils = np.arange(len(candidates))[:, None] == 1
        return np.where(spoils, np.nan, spoilt(run, settings, candidates, *rest))

    monkeypatch.setattr(evolve, "score_candidates", score)
    (tmp_path / "controller").mkdir()
    run = Run(tmp_path, RACING)
    rows = [row for _, row in evolve.evolve(run)]
    assert all(row["fitness"][1] is None and max(row["rungs"]) == 2 for row in rows)
    search = replay(run)
    assert search.generation == 4 and np.linalg.norm(search.mean) == pytest.approx(
        rows[-1]["mean_norm"], rel=1e-12
    )


def test_the_mean_that_scored_best_is_kept_at_the_end_even_after_a_stop_before_that(
    scored, tmp_path, monkeypatch
):
    monkeypatch.setattr(evolve, "_check_inputs", lambda run: None)
    monkeypatch.setattr(Run, "input_hashes", lambda run: {})
    scores = iter([[900.0, 100.0], [480.0, 490.0]])  # after generations 2 and 4
    monkeypatch.setattr(evolve, "score_mean", lambda *args: next(scores))
    run, keep = Run(tmp_path, TINY), evolve._save_best

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(evolve, "_save_best", stop)
    search = evolve.evolve(run)
    for _ in range(3):
        next(search)
        params = checkpoint.load_weights(tmp_path / "controller")["params"].numpy()
        assert params == pytest.approx(replay(run).mean, abs=1e-6)
    with pytest.raises(KeyboardInterrupt):
        next(search)
    assert not chain.is_done(run, "evolve")
    monkeypatch.setattr(evolve, "_save_best", keep)
    for _ in range(2):
        assert list(evolve.evolve(run)) == []
        assert chain.is_done(run, "evolve")
        meta = checkpoint.read_json(tmp_path / "controller" / "meta.json")
        assert (meta["generation"], meta["chosen"]) == (4, 2)
        params = checkpoint.load_weights(tmp_path / "controller")["params"].numpy()
        assert params == pytest.approx(replay(run, 2).mean, abs=1e-6)


def test_a_search_whose_last_generation_is_seen_is_done_with_its_best_mean(
    scored, tmp_path, monkeypatch
):
    monkeypatch.setattr(evolve, "_check_inputs", lambda run: None)
    monkeypatch.setattr(Run, "input_hashes", lambda run: {})
    scores = iter([[900.0], [480.0]])
    monkeypatch.setattr(evolve, "score_mean", lambda *args: next(scores))
    run = Run(tmp_path, TINY)
    done = [(chain.is_done(run, "evolve"), number) for number, _ in evolve.evolve(run)]
    assert done == [(False, 1), (False, 2), (False, 3), (True, 4)]
    assert checkpoint.read_json(tmp_path / "controller" / "meta.json")["chosen"] == 2


def test_a_generation_without_a_single_number_stops_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(evolve, "_check_inputs", lambda run: None)
    monkeypatch.setattr(
        evolve,
        "score_candidates",
        lambda run, settings, candidates, *_: candidates[:, :1] * np.nan,
    )
    with pytest.raises(
        FloatingPointError, match="no candidate of generation 0 has a return that is a number"
    ):
        next(evolve.evolve(Run(tmp_path, TINY)))


def test_progress_bar_and_plot_take_a_null_for_no_number():
    rows = [{"generation": g, "fitness": [1.0, None, 3.0]} for g in range(2)]
    assert cli._short(rows[0]) == "mean 2, best 3"
    _, ax = plt.subplots()
    plots.plot_evolution(ax, rows)
    assert ax.lines[0].get_ydata().tolist() == [2.0, 2.0]


def test_an_older_log_that_says_rounds_for_rungs_replays_as_it_did(tmp_path):
    run = Run(tmp_path, RACING)
    search = Search(RACING.evolve, 63, TINY.seed)
    candidates, climbed = search.ask(), np.arange(9) % 3
    search.tell(candidates, rank_values(candidates[:, 0], climbed))
    row = {"generation": 0, "fitness": candidates[:, 0].tolist(), "rounds": climbed.tolist()}
    line = json.dumps(row | {"mean_norm": float(np.linalg.norm(search.mean))}) + "\n"
    checkpoint.write_atomically(run.part("controller") / "generations.jsonl", line.encode())
    assert np.array_equal(replay(run).mean, search.mean)


def test_an_older_log_without_rungs_replays_as_it_did(tmp_path):
    search, rows = Search(TINY.evolve, 63, TINY.seed), []
    for generation in range(2):
        candidates = search.ask()
        search.tell(candidates, candidates[:, 0])
        row = {"generation": generation, "fitness": candidates[:, 0].tolist()}
        rows.append(row | {"mean_norm": float(np.linalg.norm(search.mean))})
    checkpoint.write_atomically(
        tmp_path / "controller" / "generations.jsonl",
        "".join(json.dumps(row) + "\n" for row in rows).encode(),
    )
    assert np.array_equal(replay(Run(tmp_path, TINY)).mean, search.mean)

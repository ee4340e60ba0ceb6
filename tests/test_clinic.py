"""The clinics: what the four share, and that each patient shows what its fault is said to show."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from wmlib.checkpoint import file_hash
from wmlib.config import resolve
from wmlib.data import EpisodeStore, load_episode
from wmlib.exercises import dreaming, predicting, searching, variational
from wmlib.exercises.clinic import Clinic, draw_frames

CLINICS = [module.CLINIC for module in (variational, predicting, searching, dreaming)]
TOY = Clinic(
    {
        "late": ("it starts late", "the curve would begin at 5"),
        "early": ("it ends early", "the curve would stop at 5"),
    },
    {"A": "early", "B": "late"},
    maker="toys",
    curves="toys.json",
    picture="toy_{}.png",
)


def test_what_a_clinic_keeps_it_reads_again(tmp_path):
    clinic = replace(TOY, folder=tmp_path / "new")
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), np.uint8)
    clinic.keep_frames("of two words", frames)
    clinic.keep_curves({"curves": {"A": [1, 2]}})
    assert {path.name for path in clinic.folder.iterdir()} == {"toy_of_two_words.png", "toys.json"}
    assert np.array_equal(clinic.read_frames("of two words"), frames)
    assert clinic.read_curves() == {
        "command": "python -m bench.clinics toys",
        "curves": {"A": [1, 2]},
    }


def test_a_clinics_task_lists_its_faults_and_asks_for_an_observation():
    text, early, late, gap, question = TOY.task("Name it:").splitlines()
    assert (text, early, late, gap) == (
        "Name it:",
        "- `late`: it starts late",
        "- `early`: it ends early",
        "",
    )
    assert "*one* observation" in question


@pytest.mark.parametrize(
    "answer, said",
    [
        (None, "expected a dict with a fault for each of A and B, got None"),
        ({"A": "early"}, "expected a dict with a fault for each of A and B"),
        ({"A": "slow", "B": "late"}, "A: no fault is called 'slow'; choose among late, early"),
        ({"A": ["early"], "B": "late"}, "A: no fault is called ['early']"),
        (
            {"A": "late", "B": "late"},
            "A: with the fault 'late' the curve would begin at 5. Look again",
        ),
    ],
)
def test_a_wrong_diagnosis_is_told_what_its_fault_would_show(answer, said):
    TOY.check(lambda: {"A": "early", "B": "late"})
    with pytest.raises(AssertionError) as error:
        TOY.check(lambda: answer)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("rows, height", [(1, 64), (2, 2 * 68)])
def test_frames_are_drawn_in_rows_with_white_between(rows, height):
    figure, ax = plt.subplots()
    frames = np.zeros((rows, 3, 64, 64, 3), np.uint8)
    draw_frames(ax, frames, rows="ab"[:rows], columns=(0, 5, 9))
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (height, 3 * 68, 3) and (shown == 0).sum() == frames.size
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "5", "9"]
    assert list(ax.get_xticks()) == [34, 102, 170] and list(ax.get_yticks()) == [34, 102][:rows]
    plt.close(figure)


@pytest.mark.parametrize("clinic", CLINICS)
def test_every_patient_has_a_fault_of_the_list_and_a_command_that_made_it(clinic):
    assert list(clinic.patients) == ["A", "B", "C"] and len(set(clinic.patients.values())) == 3
    assert clinic.faults.keys() > set(clinic.patients.values())
    if clinic.maker:
        assert clinic.read_curves()["command"] == clinic.command
        assert resolve(f"bench/clinics/{clinic.maker}.py").exists()


def test_the_vs_pictures_show_the_episode_that_was_left_out():
    frames = load_episode(EpisodeStore(resolve("data/episodes")).paths()[-1]).obs
    for name in [*variational.CLINIC.patients, *variational.FLOORS]:
        sheet = variational.CLINIC.read_frames(name)
        assert sheet.shape == (4, 8, 64, 64, 3)
        assert all((frame == frames).all(axis=(1, 2, 3)).any() for frame in sheet[0])


def test_each_v_shows_what_its_fault_is_said_to_show():
    clinic = variational.CLINIC
    curves = clinic.read_curves()["curves"]
    sheets = {name: clinic.read_frames(name).astype(float) for name in curves}

    def error(name, row):
        return np.square(sheets[name][row] - sheets[name][0]).mean()

    patient = {fault: name for name, fault in clinic.patients.items()}
    healthy = "floor 16"
    assert error(patient["no noise"], 2) > 3 * error(patient["no noise"], 1) > 0
    assert error(healthy, 2) < 2 * error(healthy, 1)
    averaged = patient["averaged error"]
    assert curves[averaged][-1]["kl"] < 0.1 and np.ptp(sheets[averaged][1], axis=0).max() < 10
    assert error(patient["frames in order"], 1) > 2 * error(healthy, 1)


def test_each_broken_dream_shows_what_its_fault_is_said_to_show():
    curves = dreaming.CLINIC.read_curves()["curves"]
    change = {name: np.array(curve["change"]) for name, curve in curves.items()}
    patient = {fault: name for name, fault in dreaming.CLINIC.patients.items()}
    healthy = change["healthy"]
    assert change[patient["noise drawn once"]][50:].max() < 0.6 < 0.5 * healthy[50:].mean()
    assert change[patient["memory emptied"]].max() > 2 * healthy.max()
    lost = patient["actions lost"]
    assert change[lost].max() < 1.5 * healthy.max()
    held = {name: longest(np.array(curves[name]["steering"]) > 0.8) for name in curves}
    assert held[lost] > 2 * held["healthy"]
    first = dreaming.CLINIC.read_frames("healthy")[:, 0]
    for name in curves:
        frames = dreaming.CLINIC.read_frames(name)
        assert frames.shape == (1, len(dreaming.SHOWN), 64, 64, 3)
        assert np.array_equal(frames[:, 0], first)


def longest(held) -> int:
    """The longest run of True."""
    return max(map(len, "".join("x" if one else " " for one in held).split()), default=0)


def test_the_dreams_are_drawn_beside_their_curves():
    figure, axes = plt.subplots(4, 3)
    dreaming.draw_patients(axes)
    assert [row[0].get_ylabel() for row in axes] == list(dreaming.CLINIC.everyone)
    for name, (strip, change, steering) in zip(dreaming.CLINIC.everyone, axes):
        shown = (
            strip.images[0]
            .get_array()
            .reshape(64, len(dreaming.SHOWN), 68, 3)[:, :, 2:-2]
            .swapaxes(0, 1)
        )
        assert np.array_equal(shown[None], dreaming.CLINIC.read_frames(name))
        assert all(len(ax.lines[0].get_ydata()) == dreaming.SHOWN[-1] for ax in (change, steering))
    plt.close(figure)


@pytest.fixture(scope="module")
def ms():
    """What is kept of the Ms: by name, a fault or healthy; its curves; beside them what belongs to all."""
    found = predicting.CLINIC.read_curves()
    named = {
        predicting.CLINIC.patients.get(name, name): curve for name, curve in found["curves"].items()
    }
    return found, named | found["others"]


def test_each_m_shows_what_its_fault_is_said_to_show(ms):
    found, curves = ms
    floor, stay = found["levels"]["floor"], found["levels"]["stay as you are"]
    still = np.array(found["standing still"])
    training, held_out, ahead, tenths = (
        {name: np.array(curve[part]) for name, curve in curves.items()}
        for part in ("training", "held out", "ahead", "calibration")
    )
    assert curves.keys() == {"healthy", *predicting.CLINIC.faults}
    well = "healthy"
    assert floor < training[well][-1] < held_out[well][-1] < (floor + stay) / 2
    assert np.abs(tenths[well] - 0.1).max() < 0.025 and (ahead[well][4:] < 0.65 * still[4:]).all()
    for too_sure in predicting.CLINIC.patients.values():
        assert tenths[too_sure][[0, -1]].min() > 0.2 > 2 * tenths[too_sure][1:-1].max()
        assert held_out[too_sure][-1] > stay

    halved = "logsigma as logvar"
    assert abs(training[halved][-1] - training[well][-1]) < 0.02
    assert np.abs(ahead[halved] / ahead[well] - 1).max() < 0.1

    off = "off by one"
    assert training[off][2] < floor and training[off][-1] < -1 and held_out[off][2] > 5 * stay
    assert (ahead[off][4:] > still[4:]).all()

    kept, turn = "noise drawn once", held_out["noise drawn once"].argmin()
    assert 30 < curves[kept]["step"][turn] < 120 and held_out[kept][-1] > 1.5 * held_out[kept][turn]
    assert held_out[kept][turn] < stay and training[kept][turn] > floor > training[kept][-1] + 0.2

    wide = "one width"
    assert tenths[wide][4:6].min() > 0.25 and tenths[wide][[0, 1, -2, -1]].max() < 0.05
    assert all(0.9 * stay < loss[wide][-1] < stay for loss in (training, held_out))

    for honest in ("memory emptied", "actions lost"):
        assert np.abs(tenths[honest] - 0.1).max() < 0.025 and held_out[honest][-1] < stay
        assert ahead[honest][9:].mean() > 1.1 * ahead[well][9:].mean()
    assert abs(held_out["actions lost"][-1] - held_out[well][-1]) < 0.01
    assert np.abs(ahead["actions lost"][:5] / ahead[well][:5] - 1).max() < 0.1


def test_the_roads_that_the_ms_predict_are_as_said():
    names = ["real", *predicting.CLINIC.everyone]
    frames = {name: predicting.CLINIC.read_frames(name)[0].astype(float) for name in names}
    patient = {fault: name for name, fault in predicting.CLINIC.patients.items()}
    moved = lambda one, other: np.abs(one - other).mean()
    real = frames["real"]
    assert all(
        strip.shape == (5, 64, 64, 3) and np.array_equal(strip[0], real[0])
        for strip in frames.values()
    )
    still = frames[patient["off by one"]]
    assert moved(still[-1], still[0]) < 0.3 * moved(real[-1], real[0])
    off = {name: moved(strip, real) for name, strip in frames.items()}
    assert off["healthy"] < off[patient["logsigma as logvar"]] < 0.7 * moved(real[:1], real)
    assert off[patient["noise drawn once"]] > 0.9 * moved(real[:1], real) > 2 * off["healthy"]


def test_the_ms_were_trained_on_the_codes_of_the_v_that_ships(ms):
    found, _ = ms
    assert found["vae_sha256"] == file_hash(
        resolve("data/pretrained/car_racing/vae/weights.safetensors")
    )


def test_the_ms_are_drawn_in_a_row_each(ms):
    found, _ = ms
    figure, axes = plt.subplots(4, 4)
    predicting.draw_patients(axes)
    assert [row[0].get_ylabel() for row in axes] == list(predicting.CLINIC.everyone)
    real = predicting.CLINIC.read_frames("real")
    for (name, curve), (loss, tenths, ahead, road) in zip(found["curves"].items(), axes):
        lines = {line.get_label(): line.get_ydata() for line in loss.lines}
        assert lines.keys() == {"training", "held out", "stay as you are", "floor"}
        assert (
            list(lines["held out"]) == curve["held out"]
            and list(lines["training"]) == curve["training"]
        )
        assert [bar.get_height() for bar in tenths.patches] == curve["calibration"]
        assert list(ahead.lines[0].get_ydata()) == curve["ahead"]
        shown = road.images[0].get_array().reshape(2, 68, 5, 68, 3)[:, 2:-2, :, 2:-2].swapaxes(1, 2)
        assert np.array_equal(shown, np.concatenate([real, predicting.CLINIC.read_frames(name)]))
    plt.close(figure)


def test_each_search_of_the_clinic_shows_what_its_fault_is_said_to_show():
    runaway = "ranks turned round"
    faults = ["", *(fault for fault in searching.CLINIC.faults if fault != runaway)]
    film = {fault: searching.searched(fault) for fault in faults}
    gap = {fault: one["gap"] for fault, one in film.items()}
    size = {fault: one["step_size"] for fault, one in film.items()}
    axes = {fault: np.linalg.eigvalsh(one["covariance"][:30]) for fault, one in film.items()}
    longest = {
        fault: np.sqrt(squares[:, 1] / squares[:, 0]).max() for fault, squares in axes.items()
    }
    assert gap[""][-1] < 1e-7 and longest[""] > 4
    frozen = "control turned round"
    assert (
        size[frozen][:15].max() == size[frozen][0]
        and size[frozen][20] < 1e-4
        and gap[frozen][-1] > 1
    )
    assert (
        1e-3 < gap["noise"][-15:].min() and gap["noise"][-15:].max() < 0.1 and longest["noise"] > 4
    )
    assert longest["shape kept"] == pytest.approx(1) and 1e-3 < gap["shape kept"][-1] < 0.1
    assert np.ptp(size["size kept"]) == 0 and gap["size kept"][-1] < 1e-6
    assert gap["no selection"][-1] > 5
    away = searching.searched(runaway, 10)
    assert (np.diff(away["gap"][1:]) > 0).all() and away["step_size"][-1] > 50 * away["step_size"][
        0
    ]


def test_the_searches_are_drawn_beside_their_curves():
    figure, axes = plt.subplots(4, 3)
    searching.draw_patients(axes)
    assert [row[0].get_ylabel() for row in axes] == list(searching.CLINIC.everyone)
    for fault, (_, gap, size) in zip(searching.CLINIC.everyone.values(), axes):
        film = searching.searched(fault)
        np.testing.assert_array_equal(gap.lines[0].get_ydata(), film["gap"])
        np.testing.assert_array_equal(size.lines[0].get_ydata(), film["step_size"])
    plt.close(figure)

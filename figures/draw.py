"""Draws everything in figures/ from the shipped agent: `make figures`."""

import json
import re
from functools import partial
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from wmlib import plots
from wmlib.agent import Agent
from wmlib.checkpoint import read_json
from wmlib.config import SELECT_SEEDS, resolve
from wmlib.data import Episode
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.vector import VectorEnv
from wmlib.mdnrnn import Mixture, sample_mixture
from wmlib.rollout import record, rollout
from wmlib.vae import to_uint8
from wmlib.video import write_mp4

HERE = Path(__file__).parent
README = resolve("README.md")
FOLDER = "data/pretrained/car_racing"
CONTRIBUTING = resolve("CONTRIBUTING.md")
TRACK = SELECT_SEEDS.start + 7
STEPS = 500  # ten seconds of the game
CLIP = 200  # steps of each of the six clips
START = 60  # the camera has come down by then
CLIP = 200  # steps of each of the six clips
INK = (64, 64, 64)
CONTROLS = 56  # white rows below a film, where a browser's controls cover no car


def driven(agent: Agent, seed: int, steps: int, pictures: str | None = None) -> Episode:
    """One real episode of so many steps; with the game's own pictures where `pictures` is "rgb_array"."""
    env = VectorEnv(partial(agent.task.make, pictures), 1, steps)
    return record(env, agent, seed, policy_seed=seed)


def dream(agent: Agent, episode: Episode, start: int, steps: int, seed: int) -> np.ndarray:
    """What the agent sees when it closes its eyes at step `start` of an episode: uint8 (steps, 64, 64, 3)."""
    memory = torch.from_numpy(episode.h[start][None]), torch.from_numpy(episode.c[start][None])
    z, task = episode.z[start], agent.task
    env = DreamEnv(agent.vae, agent.mdnrnn, z, task=task, max_steps=steps, first_state=memory)
    return np.stack([env.render()[0] for _ in rollout(env, DreamPolicy(agent, env), [seed])])


@torch.inference_mode()
def decoded(agent: Agent, z: np.ndarray | torch.Tensor) -> np.ndarray:
    """Frames that V paints from z (T, Z): uint8 (T, 64, 64, 3)."""
    return to_uint8(agent.vae.decode(torch.as_tensor(z)))


@torch.inference_mode()
def expected_next(agent: Agent, h: np.ndarray) -> np.ndarray:
    """V's picture of the mean of M's mixture over the next z, for h (T, H): uint8 (T, 64, 64, 3)."""
    mixture: Mixture = agent.mdnrnn.mixture(torch.from_numpy(h[None]))
    weights = torch.softmax(mixture.logits, dim=-1)
    return decoded(agent, (weights * mixture.mu).sum(dim=-1)[0])


def captioned(panes: dict[str, np.ndarray], side: int) -> np.ndarray:
    """Square panes side by side, each under its caption: uint8 (side + 32, width, 3)."""
    columns = []
    for caption, frame in panes.items():
        pane = np.full((side + 32, side + 8, 3), 255, np.uint8)
        times = side // frame.shape[0]  # 1 for a frame that is large already
        pane[32:, 4:-4] = frame.repeat(times, axis=0).repeat(times, axis=1)
        cv2.putText(pane, caption, (6, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
        columns.append(pane)
    return np.concatenate(columns, axis=1)


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """The middle of an official picture (400, 600, 3) as a square."""
    return cv2.resize(picture[:, 100:500], (side, side), interpolation=cv2.INTER_AREA)


def save_film(name: str, frames: list[np.ndarray]) -> None:
    """An mp4 with room for the controls and, beside it, a poster frame."""
    room = ((0, CONTROLS), (0, 0), (0, 0))
    write_mp4(
        HERE / f"{name}.mp4", (np.pad(frame, room, constant_values=255) for frame in frames), fps=50
    )
    Image.fromarray(frames[len(frames) // 3]).save(HERE / f"{name}.png")


def draw_agent_beside_dream(agent: Agent, episode: Episode) -> None:
    """The README's moving picture: the game, what V keeps of it, and the same agent in its dream."""
    dreamt = dream(agent, episode, START, len(episode.z) - START, seed=1)
    seen = decoded(agent, episode.z)
    films = list(zip(episode.pictures[START:], seen[START:], dreamt))

    def drawn(side: int, every: int) -> list[np.ndarray]:
        return [
            captioned(
                {"the game": square(p, side), "what V keeps of it": s, "the dream, no game": d},
                side,
            )
            for p, s, d in films[::every]
        ]

    save_film("agent_beside_dream", drawn(256, 1))
    small = [
        Image.fromarray(frame).quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        for frame in drawn(192, 8)
    ]
    small[0].save(
        HERE / "agent_beside_dream.gif",
        save_all=True,
        append_images=small[1:],
        duration=160,
        loop=0,
        optimize=True,
    )


def draw_four_panes(agent: Agent, episode: Episode) -> None:
    """The full agent at work: the game, the frame V reads, what V keeps, what M expected this frame to be."""
    kept, expected = (
        decoded(agent, episode.z),
        expected_next(agent, episode.h[1:]),
    )  # of frame t, of frame t + 1
    frames = [
        captioned(
            {
                "the game": square(p, 256),
                "the frame V reads": f,
                "what V keeps of it": k,
                "what M expected": e,
            },
            256,
        )
        for p, f, k, e in list(zip(episode.pictures[1:], episode.obs[1:], kept[1:], expected[:-1]))[
            START:
        ]
    ]
    save_film("four_panes", frames)


@torch.inference_mode()
def draw_six_clips(agent: Agent) -> None:
    """Six clips in two rows, all painted by V's decoder, of real episodes and of dreams; six_clips.json has the answer.

    A dream's z is drawn from what M expects, and so are the real ones': painted from mu they alone would not tremble.
    """
    real = np.array([True, False, False, True, False, True])
    clips = []
    for index, is_real in enumerate(real):
        episode = driven(agent, SELECT_SEEDS.start + 100 + index, START + CLIP)
        expected = agent.mdnrnn.mixture(torch.from_numpy(episode.h[None, START + 1 :]))
        drawn = sample_mixture(expected, generator=torch.Generator().manual_seed(index))[0]
        clips.append(
            decoded(agent, drawn) if is_real else dream(agent, episode, START, CLIP, seed=index)
        )
    length = min(map(len, clips))
    rows = [
        [
            captioned({f"clip {index + 1}": clips[index][t] for index in row}, 192)
            for t in range(length)
        ]
        for row in (range(3), range(3, 6))
    ]
    save_film("six_clips", [np.concatenate(pair) for pair in zip(*rows)])
    (HERE / "six_clips.json").write_text(json.dumps({"real": real.tolist()}) + "\n")


def draw_map() -> None:
    """The tick of the agent, as the notebooks draw it."""
    figure = plots.timing_diagram()
    figure.savefig(HERE / "one_tick.png", dpi=150)
    plt.close(figure)


def score_text() -> str:
    """The README's lines about the score, from data/results."""
    names = ("car_racing", "paper", "bench_agent")
    ours, paper, made = (read_json(resolve(f"data/results/{name}.json")) for name in names)
    paper = paper["car_racing_100_episodes"][-1]
    agent, noise = ours["agent"], ours["random_policy"]
    low, high = agent["interval"]
    return (
        f"**Measured score: {agent['mean']:.0f} ± {agent['std']:.0f}** over {agent['episodes']} unseen tracks of "
        f"gymnasium's own CarRacing-v3 (95 % interval of the mean: {low:.0f} to {high:.0f}). "
        f"Random actions score {noise['mean']:.0f} on the same tracks; "
        f"the paper's agent scored {paper['mean']} ± {paper['std']} on CarRacing-v0. "
        f"`make agent` made it from nothing in {made['seconds'] / 3600:.1f} hours on {made['cores']} cores."
    )


def write_score() -> None:
    """Put the score between the README's markers."""
    before, _, rest = README.read_text().partition("<!-- score:")
    comment, _, rest = rest.partition("-->\n")
    _, _, after = rest.partition("<!-- /score -->")
    README.write_text(f"{before}<!-- score:{comment}-->\n{score_text()}\n<!-- /score -->{after}")


def room_lines(text: str) -> str:
    """CONTRIBUTING's map with the lines that each module of wmlib has today."""

    def counted(row: re.Match) -> str:
        path = resolve("wmlib") / row[1]
        sources = sorted(path.glob("*.py")) if path.is_dir() else [path]
        lines = sum(len(one.read_text(encoding="utf-8").splitlines()) for one in sources)
        return f"| `{row[1]}` | {lines} |"

    before, mark, rest = text.partition("<!-- map -->")
    table, end, after = rest.partition("<!-- /map -->")
    return before + mark + re.sub(r"\| `(\S+)` \| \d* *\|", counted, table) + end + after


def write_map() -> None:
    """Put the lines of each module into CONTRIBUTING's map."""
    CONTRIBUTING.write_text(room_lines(CONTRIBUTING.read_text()))


def main() -> None:
    """Redraw all figures."""
    plots.use_style()
    torch.set_num_threads(1)  # a batch of one frame is too small to share
    agent = Agent.load(FOLDER)
    episode = driven(agent, TRACK, STEPS, "rgb_array")
    draw_map()
    draw_agent_beside_dream(agent, episode)
    draw_four_panes(agent, episode)
    draw_six_clips(agent)
    write_score()
    write_map()


if __name__ == "__main__":
    main()

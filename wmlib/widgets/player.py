"""Games in the reader's own hands: the player, and the player inside M's dream."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets

from wmlib.agent import Agent
from wmlib.checkpoint import append_line
from wmlib.dream import DreamEnv, DreamPolicy
from wmlib.envs.task import Task
from wmlib.envs.vector import VectorEnv
from wmlib.plots import Picture
from wmlib.vae import to_float
from wmlib.widgets.live import FOLDER, Posted, script


class Player(Posted, anywidget.AnyWidget):
    """A game in the reader's own hands: keys in, frames out.

    The browser is the clock. It asks for a step as often as the task's rate says and has three under
    way at most, so that a slow machine plays slower and misses nothing.
    """

    _esm = script("player")
    _css = FOLDER / "player.css"  # a look of its own: as a game has
    label = traitlets.Unicode().tag(sync=True)
    captions = traitlets.List([""]).tag(sync=True)  # of what is shown side by side
    dream = traitlets.Bool(False).tag(sync=True)
    controls = traitlets.Dict().tag(sync=True)  # what a person can do, and how often

    def __init__(
        self,
        env: VectorEnv | DreamEnv,
        task: Task,
        seeds: Collection[int],
        poster: Picture,
        keep: Path | None = None,
    ):
        """env: a vector of one, of this task; seeds: one an episode, in turn; poster: what is shown
        where no kernel runs; keep: a log of finished episodes.
        """
        about = {name: getattr(task, name) for name in ("fps", "noun", "verb", "help")}
        about["buttons"] = [asdict(button) for button in task.buttons]
        about["landmark"] = task.landmark_name if task.landmark else ""
        super().__init__(label=poster.alt, controls=about)
        self.task = task
        self.env = env
        self.seeds = list(seeds)
        self.poster = poster
        self.keep = keep
        self.episodes = 0
        self.restart()
        self.on_msg(self.answer)

    def restart(self) -> None:
        """Begin an episode, by the next seed."""
        self.seed = self.seeds[self.episodes % len(self.seeds)]
        self.action = np.zeros(self.task.action_size, np.float32)
        self.steps = 0
        self.total = 0.0
        self.over = ""  # what ended it
        self.episodes += 1
        self.begin()

    def begin(self) -> None:
        """The world's part in `restart`."""
        self.obs, _ = self.env.reset(seed=[self.seed])

    def step(self, pressed: Collection[str]) -> None:
        """One step with these buttons down; a finished episode is kept and stays as it is."""
        if not self.over:
            self.action = self.task.steer(self.action, pressed)
            self.advance()

    def advance(self) -> None:
        """One step of the world under `action`."""
        self.obs, reward, terminated, truncated, _ = self.env.step(self.action[None])
        self.steps += 1
        self.total += float(reward[0])
        if terminated[0]:
            who = "dream" if self.dream else "game"
            last = f"with {reward[0]:+.0f} points for the last step"
            self.over = f"the {who} ended the {self.task.noun}, {last}"
        elif truncated[0]:
            self.over = "time is up"
        if self.over and self.keep:
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            row = {"seed": self.seed, "steps": self.steps, "return": round(self.total, 1)}
            append_line(self.keep, row)

    def answer(self, _, content: dict, buffers) -> None:
        """Do what the browser asks and send it what there is to see, or what went wrong."""
        try:
            self.handle(content)
        except Exception as error:
            self.over = f"this went wrong: {type(error).__name__}: {error}"
        state = self.status() | {"over": self.over, "episode": self.episodes}
        self.send(state, [frame.tobytes() for frame in self.frames()])

    def handle(self, content: dict) -> None:
        """What the browser may ask: `again`, or a step with the buttons `pressed`; else the frame."""
        if content.get("again"):
            self.restart()
        elif "pressed" in content:
            self.step(content["pressed"])

    def status(self) -> dict:
        """What the browser says of the episode."""
        return {"status": f"step {self.steps}, {self.total:.0f} points"}

    def frames(self) -> list[np.ndarray]:
        """What is shown, uint8 (64, 64, 3) each."""
        return [self.obs[0]]


class DreamPlayer(Player):
    """The reader plays inside M's dream; beside it the real game goes under the same actions, as a ghost.

    Both begin at the same moment, after the opening of an episode of C's. They have parted where the
    landmark's overlap (`Task.overlap`) falls below PARTED and stays there; without a landmark nobody
    can say. To wake is to dream on from the ghost's present, with M's memory of what the ghost saw.
    """

    PARTED = 0.77  # half-way between V's own overlap and chance (python -m bench horizon)
    STAYS = 10  # steps

    def __init__(self, agent: Agent, ghost: VectorEnv, seeds: Collection[int], poster: Picture):
        """agent: with an M; ghost: a vector of one, of its task, real; seeds and poster: as above."""
        if agent.mdnrnn is None:
            raise ValueError("an agent without M can't dream; load data/pretrained/car_racing")
        self.agent = agent
        self.ghost = ghost
        self.mdnrnn = agent.mdnrnn
        nowhere = torch.zeros(1, agent.vae.z_size)
        self.imagined = DreamEnv(agent.vae, agent.mdnrnn, nowhere, task=agent.task)
        self.policy = DreamPolicy(agent, self.imagined)
        super().__init__(self.imagined, agent.task, seeds, poster)
        self.captions = ["your dream", "the real game, the same actions"]
        self.dream = True

    def begin(self) -> None:
        """C plays the ghost through the opening; there the dream begins."""
        self.seen, _ = self.ghost.reset(seed=[self.seed])
        state = self.agent.initial_state(1, self.seed)
        for _ in range(self.task.opening):
            action, state = self.agent.act(self.seen, state)
            self.seen, *_ = self.ghost.step(action)
            self.action = action[0]
        self.memory = (state.h, state.c)
        self.paid = 0.0
        self.gone = False  # whether the ghost's episode is over
        self.wake()

    @torch.inference_mode()
    def wake(self) -> None:
        """Dream on from what the ghost sees now."""
        self.code, _ = self.agent.vae.encode(to_float(self.seen))
        self.imagined.first_z = self.code
        self.imagined.first_state = self.memory
        self.obs, _ = self.imagined.reset(seed=[self.seed])
        self.since = 0  # steps since then
        self.low = 0  # steps in a row below PARTED
        self.parted: int | None = None
        self.overlap = self.compare()

    @torch.inference_mode()
    def advance(self) -> None:
        """One step of dream and ghost; M remembers what the ghost sees, in case the reader wakes."""
        action = torch.from_numpy(self.action)[None]
        _, self.memory = self.mdnrnn.memory(self.code[:, None], action[:, None], self.memory)
        super().advance()
        self.seen, reward, terminated, truncated, _ = self.ghost.step(self.action[None])
        self.code, _ = self.agent.vae.encode(to_float(self.seen))
        self.paid += float(reward[0])
        self.gone = bool(terminated[0] or truncated[0])
        self.since += 1
        self.overlap = self.compare()
        apart = self.overlap is not None and self.overlap < self.PARTED
        self.low = self.low + 1 if apart else 0
        if self.low == self.STAYS and self.parted is None:
            self.parted = self.since - self.STAYS + 1

    def compare(self) -> float | None:
        """How far dream and ghost show the landmark in the same place; None without a landmark."""
        if self.task.landmark is None:
            return None
        return float(self.task.overlap(self.imagined.render(), self.seen)[0])

    def handle(self, content: dict) -> None:
        """Besides what `Player` may be asked: `wake`, a `temperature`, or a step of C's, `agent`."""
        if "temperature" in content:
            self.imagined.temperature = content["temperature"]
        elif content.get("wake") and not self.over:
            self.wake()
        elif content.get("agent") and not self.over:
            self.action = self.policy.act(self.obs, None)[0][0]
            self.advance()
        else:
            super().handle(content)

    def status(self) -> dict:
        """The scores of both, and how far they agree."""
        ghost = f"really {self.paid:.0f}"
        if self.gone:
            ghost += f", and that {self.task.noun} is over"
        return {
            "status": f"step {self.steps}, M expects {self.total:.0f} points, {ghost}",
            "overlap": self.overlap,
            "since": self.since,
            "parted": self.parted,
            "limit": self.PARTED,
        }

    def frames(self) -> list[np.ndarray]:
        """The dream and the ghost's view."""
        return [self.imagined.render()[0], self.seen[0]]

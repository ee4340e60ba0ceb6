"""Games in the reader's own hands: the player, and the player inside M's dream."""

from collections.abc import Collection
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
from wmlib.widgets.live import Posted


class Player(Posted, anywidget.AnyWidget):
    """A game in the reader's own hands: keys in, frames out.

    The browser is the clock. It asks for a step at most 50 times a second and has three under way at most, so that a
    slow machine plays slower and misses nothing.
    """

    _esm, _css = Path(__file__).with_name("player.js"), Path(__file__).with_name("player.css")
    label = traitlets.Unicode().tag(sync=True)
    captions = traitlets.List([""]).tag(sync=True)  # of what is shown side by side
    dream = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, env: VectorEnv | DreamEnv, seeds: Collection[int], poster: Picture,
        keep: Path | None = None, *, task: Task,
    ):  # fmt: skip
        """env: a vector of one, of this task; seeds: one a drive, in turn; poster: what is shown where no kernel runs;
        keep: a log of finished drives.
        """
        super().__init__(label=poster.alt)
        self.env, self.seeds, self.task, self.poster = env, list(seeds), task, poster
        self.keep, self.drives = keep, 0
        self.restart()
        self.on_msg(self.answer)

    def restart(self) -> None:
        """Begin a drive, on the next seed's track."""
        self.seed = self.seeds[self.drives % len(self.seeds)]
        self.action, self.steps, self.total, self.over = np.zeros(self.task.action_size, np.float32), 0, 0.0, ""
        self.drives += 1
        self.begin()

    def begin(self) -> None:
        """The world's part in `restart`."""
        self.obs, _ = self.env.reset(seed=[self.seed])

    def step(self, pressed: Collection[str]) -> None:
        """One step with these keys down, of left, right, gas and brake; a finished drive is kept and stays as it is."""
        if not self.over:
            self.action = self.task.steer(self.action, pressed)
            self.advance()

    def advance(self) -> None:
        """One step of the world under `action`."""
        self.obs, reward, terminated, truncated, _ = self.env.step(self.action[None])
        self.steps, self.total = self.steps + 1, self.total + float(reward[0])
        if terminated[0]:
            who = "dream" if self.dream else "game"
            self.over = f"the {who} ended the drive, with {reward[0]:+.0f} points for the last step"
        elif truncated[0]:
            self.over = "time is up"
        if self.over and self.keep:
            self.keep.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.keep, {"seed": self.seed, "steps": self.steps, "return": round(self.total, 1)})

    def answer(self, _, content: dict, buffers) -> None:
        """Do what the browser asks and send it what there is to see; what goes wrong is told there too."""
        try:
            self.obey(content)
        except Exception as error:
            self.over = f"this went wrong: {type(error).__name__}: {error}"
        self.send(self.told() | {"over": self.over, "drive": self.drives}, [frame.tobytes() for frame in self.frames()])

    def obey(self, content: dict) -> None:
        """What the browser may ask: `again`, or a step with the keys `pressed`; anything else asks for the frame."""
        if content.get("again"):
            self.restart()
        elif "pressed" in content:
            self.step(content["pressed"])

    def told(self) -> dict:
        """What the browser says of the drive."""
        return {"status": f"step {self.steps}, {self.total:.0f} points"}

    def frames(self) -> list[np.ndarray]:
        """What is shown, uint8 (64, 64, 3) each."""
        return [self.obs[0]]


class DreamPlayer(Player):
    """The reader drives inside M's dream; beside it the real car goes under the same actions, as a ghost.

    Both begin at the same moment, a second into a drive of C's. They have parted where the landmark's overlap
    (`Task.overlap`) falls below PARTED and stays there. To wake is to dream on from the ghost's present, with M's
    memory of what the ghost has seen.
    """

    PARTED, STAYS = 0.77, 10  # half-way between V's own overlap and chance (python -m bench horizon); steps
    FIRST = 60  # steps of C's before the reader's

    def __init__(self, agent: Agent, ghost: VectorEnv, seeds: Collection[int], poster: Picture):
        """agent: with an M; ghost: a vector of one, of its task, real; seeds: one a drive, in turn; poster as above."""
        self.agent, self.ghost = agent, ghost
        if agent.mdnrnn is None:
            raise ValueError("an agent without M can't dream; load data/pretrained/car_racing")
        self.mdnrnn = agent.mdnrnn
        self.imagined = DreamEnv(agent.vae, agent.mdnrnn, torch.zeros(1, agent.vae.z_size), task=agent.task)
        self.policy = DreamPolicy(agent, self.imagined)
        super().__init__(self.imagined, seeds, poster, task=agent.task)
        self.captions, self.dream = ["your dream", "the real track, the same actions"], True

    def begin(self) -> None:
        """C drives the ghost for a second, until the camera has come down; there the dream begins."""
        self.seen, _ = self.ghost.reset(seed=[self.seed])
        state = self.agent.initial_state(1, self.seed)
        for _ in range(self.FIRST):
            action, state = self.agent.act(self.seen, state)
            self.seen, *_ = self.ghost.step(action)
        self.action, self.memory = action[0], (state.h, state.c)
        self.paid, self.gone = 0.0, False
        self.wake()

    @torch.inference_mode()
    def wake(self) -> None:
        """Dream on from what the ghost sees now."""
        self.code, _ = self.agent.vae.encode(to_float(self.seen))
        self.imagined.first_z, self.imagined.first_state = self.code, self.memory
        self.obs, _ = self.imagined.reset(seed=[self.seed])
        self.since, self.low = 0, 0
        self.parted: int | None = None
        self.overlap = float(self.task.overlap(self.imagined.render(), self.seen)[0])

    @torch.inference_mode()
    def advance(self) -> None:
        """One step of dream and ghost; M remembers what the ghost sees, in case the reader wakes."""
        action = torch.from_numpy(self.action)[None]
        _, self.memory = self.mdnrnn.memory(self.code[:, None], action[:, None], self.memory)
        super().advance()
        self.seen, reward, terminated, truncated, _ = self.ghost.step(self.action[None])
        self.code, _ = self.agent.vae.encode(to_float(self.seen))
        self.paid, self.gone = self.paid + float(reward[0]), bool(terminated[0] or truncated[0])
        self.overlap, self.since = float(self.task.overlap(self.imagined.render(), self.seen)[0]), self.since + 1
        self.low = self.low + 1 if self.overlap < self.PARTED else 0
        if self.low == self.STAYS and self.parted is None:
            self.parted = self.since - self.STAYS + 1

    def obey(self, content: dict) -> None:
        """Besides what `Player` may be asked: `wake`, a `temperature`, or a step with C at the wheel, `agent`."""
        if "temperature" in content:
            self.imagined.temperature = content["temperature"]
        elif content.get("wake") and not self.over:
            self.wake()
        elif content.get("agent") and not self.over:
            self.action = self.policy.act(self.obs, None)[0][0]
            self.advance()
        else:
            super().obey(content)

    def told(self) -> dict:
        """The scores of both, and how far they agree."""
        ghost = f"really {self.paid:.0f}" + (", and that drive is over" if self.gone else "")
        status = f"step {self.steps}, M expects {self.total:.0f} points, {ghost}"
        agreement = {"overlap": self.overlap, "since": self.since, "parted": self.parted, "limit": self.PARTED}
        return {"status": status, **agreement}

    def frames(self) -> list[np.ndarray]:
        """The dream and the ghost's view."""
        return [self.imagined.render()[0], self.seen[0]]

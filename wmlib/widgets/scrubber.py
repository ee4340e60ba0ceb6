"""An episode under the reader's finger: what V, M and C see at each of its moments."""

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from wmlib import plots
from wmlib.agent import Agent
from wmlib.data import Episode
from wmlib.envs.task import Task
from wmlib.mdnrnn import MDNRNN, Mixture, place_noise
from wmlib.train import encode_frames
from wmlib.vae import kl_to_standard_normal, to_uint8
from wmlib.widgets.live import Posted, script, style

SAMPLES = 6  # next frames at a time
POINTS = 201  # places at which a density is told
ALT = (
    "Moments of a {noun}: the frame, V's picture of it, a next frame that M holds possible, "
    "the one that came."
)


class Scrubber(Posted, anywidget.AnyWidget):
    """Any moment t of an episode: frame, V's picture, possible next frames, the one that came, h.

    z (T+1, Z): the code that C reads of each frame; h (T+1, H): M's memory before it. The prediction
    of z[t+1] is read from h[t+1], when M has z[t] and action[t]. All this is computed once, a moment's
    pictures when they are asked for. What is drawn depends on t, the temperature and the number of the
    draw alone.
    """

    _esm = script("scrubber")
    _css = style("scrubber")
    looks = traitlets.Dict().tag(sync=True)
    # float32 (A + 2, T): the actions, the reward, the return so far
    curves = traitlets.Bytes().tag(sync=True)

    def __init__(self, agent: Agent, episode: Episode, poster: plots.Picture | None = None):
        """agent: with an M; episode: recorded (then its own z and first memory count) or stored.

        poster: else a strip of it.

        Raises ValueError for an agent without M.
        """
        if agent.mdnrnn is None:
            raise ValueError("an agent without M foresees nothing; load data/pretrained/car_racing")
        self.frames = episode.obs
        self.vae = agent.vae
        self.noun = agent.task.noun
        self.foresee(agent.mdnrnn, episode, "mu" in agent.reads)
        self.poster = poster or self.strip()
        total = np.cumsum(episode.reward)
        curves = np.vstack([episode.action.T, episode.reward, total]).astype(np.float32)
        looks = self.sizes(agent.task, len(episode))
        super().__init__(looks=looks, curves=curves.tobytes())
        self.on_msg(self.answer)

    @torch.inference_mode()
    def foresee(self, mdnrnn: MDNRNN, episode: Episode, reads_mu: bool) -> None:
        """z, h, M's mixtures, the axes that hold all that came or may come, the latents by their use."""
        T = len(episode)
        mu, logvar = map(torch.from_numpy, encode_frames(self.vae, self.frames))
        noise = torch.Generator().manual_seed(episode.seed)
        self.z = mu.clone() if reads_mu else self.vae.sample(mu, logvar, noise)
        first = mdnrnn.initial_state(1)
        own = vars(episode)
        if own.get("h") is not None and own["h"].shape[1] == mdnrnn.hidden_size:
            self.z[:T] = torch.from_numpy(own["z"])
            first = torch.from_numpy(own["h"][:1]), torch.from_numpy(own["c"][:1])
        action = torch.from_numpy(episode.action)
        after, _ = mdnrnn.memory(self.z[None, :T], action[None], first)
        self.h = torch.cat([first[0], after[0]])
        mixture = mdnrnn.mixture(after)
        self.mixture = Mixture(*(part[0] for part in mixture))  # of z[1] to z[T], (T, Z, K)
        centre = self.mixture.mu
        width = self.mixture.logsigma.exp()
        self.low = torch.minimum(self.z.amin(0), (centre - 2 * width).amin((0, 2)))  # (Z,)
        self.high = torch.maximum(self.z.amax(0), (centre + 2 * width).amax((0, 2)))
        usage = kl_to_standard_normal(mu, logvar).mean(dim=0)
        self.latents = usage.argsort(descending=True).tolist()

    def sizes(self, task: Task, steps: int) -> dict:
        """What the browser lays its page out by."""
        low = task.action_space.low.tolist()
        high = task.action_space.high.tolist()
        return {
            "steps": steps,
            "first": min(task.opening, steps // 2),  # the step that is shown first
            "latents": self.latents,
            "actions": list(zip(task.action_names, low, high)),
            "reach": float(self.h.abs().quantile(0.99)),
            "samples": SAMPLES,
            "points": POINTS,
            "fps": task.fps,
            "noun": self.noun,
        }

    def strip(self) -> plots.Picture:
        """Seven moments of the episode, as a picture."""
        steps = np.linspace(0, len(self.frames) - 2, 9).round().astype(int)[1:-1]
        drawn = torch.cat([self.draw(t)[:1] for t in steps])
        rows = {"frame": self.frames[steps], "V's picture": self.decode(self.z[steps])}
        rows |= {"may come": self.decode(drawn), "what came": self.frames[steps + 1]}
        figure = plots.frame_rows(rows, titles=[f"step {t}" for t in steps])
        return plots.picture(figure, ALT.format(noun=self.noun))

    @torch.inference_mode()
    def decode(self, z: Tensor) -> np.ndarray:
        """V's pictures, uint8 (N, 64, 64, 3), of codes (N, Z)."""
        return to_uint8(self.vae.decode(z))

    def draw(self, t: int, temperature: float = 1.0, draw: int = 0) -> Tensor:
        """z[t+1] as M holds it possible, (SAMPLES, Z).

        Raises ValueError unless the temperature is a positive number.
        """
        rng = np.random.default_rng([draw, t])
        shape = SAMPLES, self.z.shape[1]
        uniform = torch.from_numpy(rng.random(shape, "f4"))
        normal = torch.from_numpy(rng.standard_normal(shape, "f4"))
        mixture = Mixture(*(part[t].expand(SAMPLES, -1, -1) for part in self.mixture))
        return place_noise(mixture, uniform, normal, temperature)

    def density(self, t: int, latent: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """x (POINTS,) and the density that `draw` follows there, (K + 1, POINTS).

        The density's rows are the mixture's parts and their sum.
        """
        x = torch.linspace(self.low[latent].item(), self.high[latent].item(), POINTS)
        logits, mu, logsigma = (part[t, latent, :, None] for part in self.mixture)  # (K, 1)
        log_normal = torch.distributions.Normal(mu, logsigma.exp() * temperature**0.5).log_prob(x)
        parts = torch.softmax(logits / temperature, dim=0) * log_normal.exp()
        return x, torch.cat([parts, parts.sum(dim=0, keepdim=True)])

    def answer(self, _, content: dict, buffers) -> None:
        """Send the moment that the browser asks for, or what is wrong, with its question."""
        try:
            found, seen = self.moment(
                content["t"], content["latent"], content["temperature"], content["draw"]
            )
            self.send({**content, **found}, [part.tobytes() for part in seen])
        except Exception as error:  # the reader sees it, and the next question gets an answer
            self.send({**content, "trouble": f"the kernel can't show this: {error!r}"})

    def moment(self, t: int, latent: int, temperature: float, draw: int) -> tuple[dict, list]:
        """The latent's numbers at step t, and what is painted: frames, V's pictures, density, h."""
        T = len(self.h) - 1
        if t not in range(T + 1) or latent not in self.latents:
            last = len(self.latents) - 1
            raise ValueError(f"this {self.noun} has steps 0 to {T}, V latents 0 to {last}")
        drawn = self.z[:0]  # after T nothing comes
        curves = torch.empty(0)
        if t < T:
            drawn = self.draw(t, temperature, draw)
            curves = self.density(t, latent, temperature)[1]
        pictures = self.decode(torch.cat([self.z[t : t + 1], drawn]))
        found = {
            "drawn": drawn[:, latent].tolist(),
            "came": self.z[t + 1 : t + 2, latent].tolist(),
            "axis": [self.low[latent].item(), self.high[latent].item()],
        }
        return found, [self.frames[t : t + 2], pictures, curves.numpy(), self.h[t].numpy()]

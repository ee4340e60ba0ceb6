"""An episode under the reader's finger: what V, M and C see at each of its moments."""

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from wmlib import plots
from wmlib.agent import Agent
from wmlib.data import Episode
from wmlib.mdnrnn import Mixture, place_noise
from wmlib.train import encode_frames
from wmlib.vae import kl_to_standard_normal, to_uint8
from wmlib.widgets.live import Posted, script, style

SAMPLES, POINTS = 6, 201  # next frames at a time; places at which a density is told
ALT = (
    "Moments of a {noun}: the frame, V's picture of it, a next frame that M holds possible, "
    "the one that came."
)


class Scrubber(Posted, anywidget.AnyWidget):
    """Any moment t of an episode: the frame, V's picture, next frames that M holds possible, h.

    Beside them stands the frame that came. z (T+1, Z): the code that C reads of each frame; h
    (T+1, H): M's memory before it. The prediction of z[t+1] is read from h[t+1], when M has z[t]
    and action[t]. All this is computed once, a moment's pictures when they are asked for. What is
    drawn depends on t, the temperature and the number of the draw alone.
    """

    _esm = script("scrubber")
    _css = style("scrubber")
    looks = traitlets.Dict().tag(sync=True)
    curves = traitlets.Bytes().tag(
        sync=True
    )  # float32 (A + 2, T): the actions, the reward, the return so far

    @torch.inference_mode()
    def __init__(self, agent: Agent, episode: Episode, poster: plots.Picture | None = None):
        """agent: with an M; episode: recorded (then its own z and first memory count) or stored.

        poster: else a strip of it.

        Raises ValueError for an agent without M.
        """
        if agent.mdnrnn is None:
            raise ValueError("an agent without M foresees nothing; load data/pretrained/car_racing")
        self.frames = episode.obs
        self.vae, T = agent.vae, len(episode)
        mu, logvar = map(torch.from_numpy, encode_frames(agent.vae, self.frames))
        noise = torch.Generator().manual_seed(episode.seed)
        self.z = mu.clone() if "mu" in agent.reads else agent.vae.sample(mu, logvar, noise)
        first, own = agent.mdnrnn.initial_state(1), vars(episode)
        if own.get("h") is not None and own["h"].shape[1] == agent.mdnrnn.hidden_size:
            self.z[:T] = torch.from_numpy(own["z"])
            first = torch.from_numpy(own["h"][:1]), torch.from_numpy(own["c"][:1])
        after, _ = agent.mdnrnn.memory(
            self.z[None, :T], torch.from_numpy(episode.action)[None], first
        )
        self.h = torch.cat([first[0], after[0]])
        self.mixture = Mixture(
            *(part[0] for part in agent.mdnrnn.mixture(after))
        )  # of z[1] to z[T], (T, Z, K)
        centre, width = (
            self.mixture.mu,
            self.mixture.logsigma.exp(),
        )  # an axis holds all that came or may come
        self.low = torch.minimum(self.z.amin(0), (centre - 2 * width).amin((0, 2)))  # (Z,)
        self.high = torch.maximum(self.z.amax(0), (centre + 2 * width).amax((0, 2)))
        self.latents = (
            kl_to_standard_normal(mu, logvar).mean(dim=0).argsort(descending=True).tolist()
        )
        space, reach = agent.task.action_space, float(self.h.abs().quantile(0.99))
        actions = list(zip(agent.task.action_names, space.low.tolist(), space.high.tolist()))
        looks = {
            "steps": T,
            "first": min(60, T // 2),
            "latents": self.latents,
            "actions": actions,
            "reach": reach,
        }
        self.noun = agent.task.noun
        looks |= {"samples": SAMPLES, "points": POINTS, "fps": agent.task.fps, "noun": self.noun}
        curves = np.vstack([episode.action.T, episode.reward, np.cumsum(episode.reward)]).astype(
            np.float32
        )
        self.poster = poster or self.strip()
        super().__init__(looks=looks, curves=curves.tobytes())
        self.on_msg(self.answer)

    def strip(self) -> plots.Picture:
        """Seven moments of the episode, as a picture."""
        steps = np.linspace(0, len(self.frames) - 2, 9).round().astype(int)[1:-1]
        drawn = torch.cat([self.draw(t)[:1] for t in steps])
        rows = {"frame": self.frames[steps], "V's picture": self.decode(self.z[steps])}
        rows |= {"may come": self.decode(drawn), "what came": self.frames[steps + 1]}
        return plots.picture(
            plots.frame_rows(rows, titles=[f"step {t}" for t in steps]), ALT.format(noun=self.noun)
        )

    @torch.inference_mode()
    def decode(self, z: Tensor) -> np.ndarray:
        """V's pictures, uint8 (N, 64, 64, 3), of codes (N, Z)."""
        return to_uint8(self.vae.decode(z))

    def draw(self, t: int, temperature: float = 1.0, draw: int = 0) -> Tensor:
        """z[t+1] as M holds it possible, (SAMPLES, Z); ValueError unless the temperature is a positive number."""
        rng, shape = np.random.default_rng([draw, t]), (SAMPLES, self.z.shape[1])
        uniform, normal = (
            torch.from_numpy(noise(shape, "f4")) for noise in (rng.random, rng.standard_normal)
        )
        mixture = Mixture(*(part[t].expand(SAMPLES, -1, -1) for part in self.mixture))
        return place_noise(mixture, uniform, normal, temperature)

    def density(self, t: int, latent: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """x (POINTS,) and the density that `draw` follows there, (K + 1, POINTS): the mixture's parts and their sum."""
        x = torch.linspace(self.low[latent].item(), self.high[latent].item(), POINTS)
        logits, mu, logsigma = (part[t, latent, :, None] for part in self.mixture)  # (K, 1)
        log_normal = torch.distributions.Normal(mu, logsigma.exp() * temperature**0.5).log_prob(x)
        parts = torch.softmax(logits / temperature, dim=0) * log_normal.exp()
        return x, torch.cat([parts, parts.sum(dim=0, keepdim=True)])

    def answer(self, _, content: dict, buffers) -> None:
        """The moment that the browser asks for; its question comes back, with what is to be seen or what is wrong."""
        try:
            t, latent, temperature, T = (
                content["t"],
                content["latent"],
                content["temperature"],
                len(self.h) - 1,
            )
            if t not in range(T + 1) or latent not in self.latents:
                raise ValueError(
                    f"this {self.noun} has steps 0 to {T}, V latents 0 to {len(self.latents) - 1}"
                )
            drawn = (
                self.draw(t, temperature, content["draw"]) if t < T else self.z[:0]
            )  # after T nothing comes
            curves = self.density(t, latent, temperature)[1] if t < T else torch.empty(0)
            pictures = self.decode(torch.cat([self.z[t : t + 1], drawn]))
            answer = {
                "drawn": drawn[:, latent].tolist(),
                "came": self.z[t + 1 : t + 2, latent].tolist(),
            }
            answer["axis"] = [self.low[latent].item(), self.high[latent].item()]
            seen = self.frames[t : t + 2], pictures, curves.numpy(), self.h[t].numpy()
            self.send({**content, **answer}, [part.tobytes() for part in seen])
        except (
            Exception
        ) as error:  # whatever it is, the reader sees it and the next question gets an answer
            self.send({**content, "trouble": f"the kernel can't show this: {error!r}"})

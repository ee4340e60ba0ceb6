"""V's latents under the reader's sliders."""

from collections.abc import Mapping, Sequence

import anywidget
import numpy as np
import torch
import traitlets

from wmlib.plots import Picture
from wmlib.train import encode_frames
from wmlib.vae import VAE, kl_to_standard_normal, to_uint8
from wmlib.widgets.live import Posted, script, style


class LatentExplorer(Posted, anywidget.AnyWidget):
    """One frame, what V makes of it, the difference from what it makes of mu, and a slider for each latent.

    The browser holds the sliders and has two questions under way at most: a newer position takes the place of those not
    yet asked. The small pictures at a slider's ends show its latent there and all others at mu: they change with the
    frame alone, so that a move costs one decoding.
    """

    _esm = script("explorer")
    _css = style("explorer")
    looks = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        vae: VAE,
        frames: np.ndarray,
        poster: Picture,
        sliders: int = 8,
        usage: np.ndarray | None = None,
    ):
        """frames: uint8 (N, 64, 64, 3), those to choose from; sliders: how many are shown at first, most used first;
        usage: how much V uses each latent, in nats (Z,), else its mean KL over these frames.
        """
        self.vae, self.frames, self.poster = vae, frames, poster
        self.mu, logvar = encode_frames(vae, frames)  # (N, Z)
        if usage is None:
            usage = (
                kl_to_standard_normal(torch.from_numpy(self.mu), torch.from_numpy(logvar))
                .mean(dim=0)
                .numpy()
            )
        self.latents = np.argsort(-usage).tolist()
        self.reach = float(max(3, np.ceil(np.abs(self.mu).max())))
        nats = usage[self.latents].tolist()
        looks = {
            "frames": len(frames),
            "latents": self.latents,
            "nats": nats,
            "reach": self.reach,
            "sliders": sliders,
        }
        super().__init__(looks=looks)
        self.on_msg(self.answer)

    @torch.inference_mode()
    def draw(self, frame: int, moves: Sequence[Mapping[int, float]]) -> np.ndarray:
        """What V decodes from a frame's mu with some latents moved: a picture for each of `moves`, latents to values.

        Returns uint8 (len(moves), 64, 64, 3). Raises ValueError where a latent's value is not finite.
        """
        z = np.repeat(self.mu[frame][None], len(moves), axis=0)
        for row, moved in zip(z, moves):
            row[[int(latent) for latent in moved]] = list(moved.values())
        if not np.isfinite(z).all():
            raise ValueError(f"a latent can't be moved to a number that is not finite: {moves}")
        return to_uint8(self.vae.decode(torch.from_numpy(z)))

    def answer(self, _, content: dict, buffers) -> None:
        """Decode what the browser asks for; its question comes back, with the pictures or with what is wrong."""
        try:
            frame = int(content["frame"])
            decoded = self.draw(frame, content["moves"])
            self.send(
                {**content, "mu": self.mu[frame].tolist()},
                [self.frames[frame].tobytes(), decoded.tobytes()],
            )
        except Exception as error:  # whatever it is, the reader sees it and the sliders go on
            self.send({**content, "trouble": f"the kernel can't decode this: {error!r}"})

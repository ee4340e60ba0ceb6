"""Training M, time steps a second, on the same pieces of episodes in turn: the origin script's loop, a plain one, ours.

A time step is one z[t+1] to predict in one sequence: a step of the optimiser has as many as batch size times length.
Compared at the paper's sizes, and at the origin script's, where its loops weigh more beside the arithmetic. All read
drawn codes; look_ahead is off, for the others have none.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from bench.common import FOLDER
from wmlib.agent import Agent
from wmlib.config import resolve
from wmlib.data import EncodedEpisode, EpisodeStore, Sequences, load_episode, sequence_batches
from wmlib.mdnrnn import MDNRNN
from wmlib.parallel import cores
from wmlib.presets import LAPTOP_M
from wmlib.train import encode_episode, train_mdnrnn

ROUNDS = 5
A, K = 3, LAPTOP_M.num_mixtures  # the script's too
SIZES = {"the paper's": (32, 256), "the script's": (16, 64)}  # Z and H
BATCH = LAPTOP_M.batch_size, LAPTOP_M.sequence_length
SCRIPT_BATCH = (32, 4)  # its episodes have 5 frames, so 4 steps to predict
SCRIPT_LEARNING_RATE = 1e-4
STEPS = {
    "script": 1,
    "script, its own batch": 20,
    "plain": 4,
    "ours": 8,
}  # of the optimiser, in a round


class PlainMDNRNN(nn.Module):
    """An LSTM with both of torch's biases and a linear layer: z (B, T, Z) and action (B, T, A) to (B, T, outputs)."""

    def __init__(self, Z: int, H: int, outputs: int):
        super().__init__()
        self.lstm, self.head = nn.LSTM(Z + A, H, batch_first=True), nn.Linear(H, outputs)

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        return self.head(self.lstm(torch.cat([z, action], dim=-1))[0])


def script_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """The origin script's, written anew: the mean over steps of -log p(z[t+1]), all latents together.

    Kept: two Python loops over time and batch, in which outputs (B, T, K + 2 K Z) are taken apart row by row; one set
    of K weights for all latents at once; log-variances; the logarithm of a softmax; a sum that grows term by term.
    """
    loss, (B, T, Z) = torch.zeros(()), target.shape
    for t in range(T):
        at_t = outputs[:, t]
        for b in range(B):
            row = at_t[b]
            K = len(row) // (2 * Z + 1)
            weights = torch.softmax(row[:K], dim=0)
            mu, logvar = row[K : K + K * Z].view(K, Z), row[K + K * Z :].view(K, Z)
            square = torch.sum((target[b, t] - mu) ** 2 / torch.exp(logvar), dim=1)
            log_normal = -0.5 * (Z * math.log(2 * math.pi) + torch.sum(logvar, dim=1) + square)
            loss = loss - torch.logsumexp(torch.log(weights) + log_normal, dim=0)
    return loss / (B * T)


def plain_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """The mean of -log p(z[t+1]) of a latent by torch's own mixture: outputs (B, T, 3 Z K), target (B, T, Z)."""
    logits, mu, logsigma = outputs.view(*target.shape, 3, -1).unbind(dim=-2)
    return (
        -MixtureSameFamily(Categorical(logits=logits), Normal(mu, logsigma.exp()))
        .log_prob(target)
        .mean()
    )


def plain_loop(
    model: PlainMDNRNN, loss_of, learning_rate: float, batches: Iterator[Sequences]
) -> Iterator[float]:
    """Train as one would write it first: a step for each next()."""
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for pieces in batches:
        z, action = torch.from_numpy(pieces.z), torch.from_numpy(pieces.action)
        loss = loss_of(model(z[:, :-1], action), z[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def training_loops(paths: list[Path], Z: int, H: int) -> dict[str, Iterator]:
    """Each one's endless training, on the episodes in these files."""
    batches = lambda size: sequence_batches(paths, size[0], size[1], seed=0)
    script = lambda size: plain_loop(
        PlainMDNRNN(Z, H, K * (2 * Z + 1)), script_loss, SCRIPT_LEARNING_RATE, batches(size)
    )
    plain = PlainMDNRNN(Z, H, K * 3 * Z)
    settings = replace(LAPTOP_M, steps=10**9, look_ahead=None)
    return {
        "script": script(BATCH),
        "script, its own batch": script(SCRIPT_BATCH),
        "plain": plain_loop(plain, plain_loss, LAPTOP_M.learning_rate, batches(BATCH)),
        "ours": train_mdnrnn(settings, MDNRNN(Z, A, H, K), batches(BATCH)),
    }


def rates(loops: dict[str, Iterator]) -> dict[str, list[float]]:
    """Time steps a second of each, round by round."""
    found: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(ROUNDS + 1):
        for name, loop in loops.items():
            started = time.perf_counter()
            for _ in range(STEPS[name]):
                next(loop)
            size = math.prod(SCRIPT_BATCH if "own" in name else BATCH)
            rate = size * STEPS[name] / (time.perf_counter() - started)
            found[name] += [rate][: number > 0]  # the first round warms up
    return found


def encoded_sample(store: EpisodeStore, Z: int) -> list[Path]:
    """The episodes that ship, as the first Z latents of the V that ships."""
    vae = Agent.load(FOLDER).vae
    for index, path in enumerate(EpisodeStore(resolve("data/episodes")).paths()):
        code = encode_episode(vae, load_episode(path))
        store.save(index, replace(code, mu=code.mu[:, :Z], logvar=code.logvar[:, :Z]))
    return store.paths()


def main() -> dict:
    """Print rates and ratios at both sizes, on one thread and on all cores."""
    results: dict = {"rounds": ROUNDS, "batch": BATCH, "scripts_batch": SCRIPT_BATCH, "sizes": {}}
    for sizes, (Z, H) in SIZES.items():
        results["sizes"][sizes] = {"Z": Z, "H": H, "threads": {}}
        with tempfile.TemporaryDirectory() as folder:
            loops = training_loops(
                encoded_sample(EpisodeStore(Path(folder), EncodedEpisode), Z), Z, H
            )
            for threads in sorted({1, cores()}):
                torch.set_num_threads(threads)
                found = rates(loops)
                ratios = {
                    name: statistics.median(
                        ours / theirs for ours, theirs in zip(found["ours"], found[name])
                    )
                    for name in found
                }
                print(f"{sizes} sizes, threads: {threads}")
                for name, values in found.items():
                    rate = statistics.median(values)
                    print(
                        f"  {name:22}{rate:9,.0f} time steps a second; ours {ratios[name]:5.1f} times as many"
                    )
                results["sizes"][sizes]["threads"][str(threads)] = {
                    "steps_per_s": {
                        name: statistics.median(values) for name, values in found.items()
                    },
                    "ours_times_as_fast_as": {
                        name: ratio for name, ratio in ratios.items() if name != "ours"
                    },
                }
    return results

"""Stages 2 and 3: V learns to see, M learns to predict; both resume where they stopped."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wmlib import checkpoint, data
from wmlib.agent import new_models
from wmlib.config import Config, MDNRNNConfig, VAEConfig, to_dict
from wmlib.data import EncodedEpisode, Episode, EpisodeStore, Sequences, open_latents
from wmlib.fast import has_bf16
from wmlib.mdnrnn import MDNRNN, mdnrnn_loss
from wmlib.parallel import run
from wmlib.vae import VAE, to_float, vae_loss

Steps = Iterator[tuple[int, dict[str, float]]]  # the number of steps done and the last one's metrics
SAVE_EVERY = 100  # steps between two savings of a training's progress


def train_vae(
    config: VAEConfig, vae: VAE, batches: Iterator[np.ndarray],
    optimizer: torch.optim.Adam | None = None, seed: int = 0, first_step: int = 0,
) -> Steps:  # fmt: skip
    """Train V in place on batches of frames, uint8 (B, 64, 64, 3) (paper, A.1).

    Yields the number of steps done and that step's metrics: loss, squared_error, kl.
    Raises FloatingPointError at the first loss that is not finite.
    """
    device = vae.to_mu.weight.device
    optimizer = optimizer or torch.optim.Adam(vae.parameters(), config.learning_rate, fused=True)
    for step in range(first_step, config.steps):
        x = to_float(next(batches)).to(device)
        key = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1
        noise = torch.Generator(device).manual_seed(int(key))  # this step's own, whatever happened before it
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
            seen = vae(x, noise)
        recon, mu, logvar = (part.float() for part in seen)  # the loss stays in fp32
        loss, metrics = vae_loss(recon, x, mu, logvar, config.kl_tolerance)
        _descend(loss, optimizer, config, step)
        yield step + 1, {"loss": loss.item(), **{name: value.item() for name, value in metrics.items()}}


def train_mdnrnn(
    config: MDNRNNConfig, mdnrnn: MDNRNN, batches: Iterator[Sequences],
    optimizer: torch.optim.Adam | None = None, first_step: int = 0,
) -> Steps:  # fmt: skip
    """Train M in place on batches of sequences by teacher forcing (paper, A.2).

    Yields the number of steps done and that step's loss with its parts, which `mdnrnn_loss` names.
    Raises FloatingPointError at the first loss that is not finite.
    """
    device = mdnrnn.to_mixture.weight.device
    trainable = [weights for weights in mdnrnn.parameters() if weights.requires_grad]
    optimizer = optimizer or torch.optim.Adam(trainable, config.learning_rate)
    for step in range(first_step, config.steps):
        loss, metrics = mdnrnn_loss(mdnrnn, Sequences(*(torch.from_numpy(part).to(device) for part in next(batches))))
        _descend(loss, optimizer, config, step)
        yield step + 1, {"loss": loss.item(), **{name: value.item() for name, value in metrics.items()}}


def _descend(loss: torch.Tensor, optimizer: torch.optim.Adam, config: VAEConfig | MDNRNNConfig, step: int) -> None:
    if not torch.isfinite(loss):
        lost = "nothing was saved after the last checkpoint"
        raise FloatingPointError(f"the loss is {loss.item()} at step {step + 1}; {lost}")
    optimizer.zero_grad()
    loss.backward()
    (group,) = optimizer.param_groups
    if isinstance(config, MDNRNNConfig):
        nn.utils.clip_grad_value_(group["params"], config.gradient_clip)
    if config.learning_rate_end is not None:
        group["lr"] = config.learning_rate + (config.learning_rate_end - config.learning_rate) * step / config.steps
    optimizer.step()


def vae_stage(config: Config, folder: Path, device: str = "cpu", skip_damaged: bool = False) -> Steps:
    """Train V on a run's episodes and keep it in `folder`/vae; continues what a stop left behind."""
    torch.manual_seed(config.seed)
    vae, paths = new_models(config)[0].to(device), EpisodeStore(folder / "episodes").paths()
    optimizer = torch.optim.Adam(vae.parameters(), config.vae.learning_rate, fused=True)

    def loop(first_step: int):
        batches = data.frame_batches(paths, config.vae.batch_size, config.seed, first_step, skip_damaged)
        return train_vae(config.vae, vae, batches, optimizer, config.seed, first_step)

    meta = {"config": to_dict(config), "seed": config.seed, "device": device, "data_sha256": data.data_hash(paths)}
    yield from _kept(folder / "vae", vae, optimizer, config.vae.steps, loop, meta)


def mdnrnn_stage(config: Config, folder: Path, device: str = "cpu", skip_damaged: bool = False) -> Steps:
    """Encode a run's episodes with its V, train M on them, keep it in `folder`/mdnrnn; continues after a stop."""
    torch.manual_seed(config.seed)
    settings, (vae, mdnrnn, _) = config.mdnrnn, new_models(config)
    if settings is None or mdnrnn is None:
        raise ValueError(f"the preset {config.preset} has no M to train")
    checkpoint.load_into(vae, folder / "vae")  # a missing or damaged V is reported before the work begins
    store = open_latents(folder)
    for share in encode_episodes(config, folder, skip_damaged):
        yield 0, {"share of episodes encoded": share}
    mdnrnn, paths = mdnrnn.to(device), store.paths()
    optimizer = torch.optim.Adam([p for p in mdnrnn.parameters() if p.requires_grad], settings.learning_rate)

    def loop(first_step: int):
        batches = data.sequence_batches(paths, settings.batch_size, settings.sequence_length, config.seed, first_step)
        return train_mdnrnn(settings, mdnrnn, batches, optimizer, first_step)

    meta = {"config": to_dict(config), "seed": config.seed, "device": device, "data_sha256": data.data_hash(paths)}
    meta |= checkpoint.read_json(store.folder / "meta.json")  # the hash of the V whose codes these are
    yield from _kept(folder / "mdnrnn", mdnrnn, optimizer, settings.steps, loop, meta)


def _kept(folder: Path, module: nn.Module, optimizer, steps: int, loop, meta: dict) -> Steps:
    """Run a training loop with its history, its progress and, at the end, its weights kept in `folder`."""
    if (folder / "weights.safetensors").exists():
        return
    first_step, seconds = checkpoint.load_progress(folder, module, optimizer, meta["data_sha256"])
    started = time.time() - seconds  # as if it had never stopped
    folder.mkdir(parents=True, exist_ok=True)
    history, every = folder / "history.jsonl", max(1, steps // 300)
    checkpoint.keep_lines(history, first_step // every)
    for step, metrics in loop(first_step):
        if step % every == 0:
            checkpoint.append_line(history, {"step": step, **metrics})
        if step % SAVE_EVERY == 0 and step < steps:
            checkpoint.save_progress(folder, module, optimizer, step, time.time() - started, meta["data_sha256"])
        yield step, metrics
    meta = checkpoint.describe(started, metrics=metrics, **meta)
    checkpoint.save_weights(folder, checkpoint.to_half(module.state_dict()), meta)
    (folder / "progress.safetensors").unlink(missing_ok=True)


def encode_episodes(config: Config, folder: Path, skip_damaged: bool = False) -> Iterator[float]:
    """Encode those of a run's episodes that are not yet in its latents, on all cores; yields the share done.

    Raises ValueError when the latents that there are belong to another V.
    """
    store, paths = open_latents(folder), EpisodeStore(folder / "episodes").paths()
    missing = [path for path in paths if not (store.folder / path.name).exists()]
    jobs = [(config, folder, missing[i : i + 8], skip_damaged) for i in range(0, len(missing), 8)]
    for done, _ in enumerate(run(encode_block, jobs), 1):
        yield min(1.0, (len(paths) - len(missing) + 8 * done) / len(paths))
    if not any((store.folder / path.name).exists() for path in paths):
        raise ValueError(f"all {len(paths)} episodes of {folder} are damaged; delete them and run collect again")


def encode_block(config: Config, folder: Path, paths: list[Path], skip_damaged: bool) -> None:
    """Encode a few episodes, each into a file of its own under the same index."""
    vae, store = new_models(config)[0], open_latents(folder)
    checkpoint.load_into(vae, folder / "vae")
    for path in paths:
        for episode in data.load_episodes([path], skip_damaged):
            store.save(int(path.stem), encode_episode(vae, episode))


def encode_episode(vae: VAE, episode: Episode) -> EncodedEpisode:
    """An episode as V sees it."""
    return EncodedEpisode(*encode_frames(vae, episode.obs), episode.action, episode.reward, episode.terminated)


@torch.inference_mode()
def encode_frames(vae: VAE, obs: np.ndarray, batch_size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """mu and logvar, float32 (N, Z), of any number of frames, uint8 (N, 64, 64, 3)."""
    codes = [vae.encode(to_float(obs[i : i + batch_size])) for i in range(0, len(obs), batch_size)]
    return torch.cat([mu for mu, _ in codes]).numpy(), torch.cat([logvar for _, logvar in codes]).numpy()

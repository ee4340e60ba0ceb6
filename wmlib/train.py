"""Stages 2 and 3: V learns to see, M learns to predict; both resume where they stopped."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wmlib import checkpoint, data, parallel
from wmlib.agent import load_memory, new_models
from wmlib.config import MDNRNNConfig, VAEConfig
from wmlib.config_json import to_dict
from wmlib.data import EncodedEpisode, Episode, Sequences
from wmlib.fast import has_bf16
from wmlib.mdnrnn import MDNRNN, mdnrnn_loss, outcome_layers, outcome_loss
from wmlib.run import Run
from wmlib.vae import VAE, to_float, vae_loss

Steps = Iterator[tuple[int, dict[str, float]]]  # the steps done and the last one's metrics
Loop = Callable[[int], Steps]  # from the first step that is still to be done
SAVE_EVERY = 100  # steps between two savings of a training's progress


def train_vae(
    config: VAEConfig,
    vae: VAE,
    batches: Iterator[np.ndarray],
    optimizer: torch.optim.Adam | None = None,
    seed: int = 0,
    first_step: int = 0,
) -> Steps:
    """Train V in place on batches of frames, uint8 (B, 64, 64, 3) (paper, A.1).

    Yields the number of steps done and that step's metrics: loss, squared_error, kl.
    Raises FloatingPointError at the first loss that is not finite.
    """
    device = vae.to_mu.weight.device
    optimizer = optimizer or adam(vae, config.learning_rate, fused=True)
    for step in range(first_step, config.steps):
        x = to_float(next(batches)).to(device)
        key = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1
        noise = torch.Generator(device).manual_seed(
            int(key)
        )  # this step's own, whatever came before
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device)):
            seen = vae(x, noise)
        recon, mu, logvar = (part.float() for part in seen)  # the loss stays in fp32
        loss, metrics = vae_loss(recon, x, mu, logvar, config.kl_tolerance)
        _set_rate(optimizer, config, step)
        _descend(loss, optimizer, step)
        yield step + 1, _plain(loss, metrics)


def train_mdnrnn(
    config: MDNRNNConfig,
    mdnrnn: MDNRNN,
    batches: Iterator[Sequences],
    optimizer: torch.optim.Adam | None = None,
    first_step: int = 0,
) -> Steps:
    """Train M in place on batches of sequences by teacher forcing (paper, A.2).

    Yields the number of steps done and that step's loss with its parts, which `mdnrnn_loss` names.
    Raises FloatingPointError at the first loss that is not finite.
    """
    device = mdnrnn.to_mixture.weight.device
    optimizer = optimizer or adam(mdnrnn, config.learning_rate)
    end_weight = config.outcome.end_weight if config.outcome else 1.0
    for step in range(first_step, config.steps):
        sequences = _as_tensors(next(batches), device)
        loss, metrics = mdnrnn_loss(mdnrnn, sequences, end_weight)
        _set_rate(optimizer, config, step)
        _descend(loss, optimizer, step, config.gradient_clip)
        yield step + 1, _plain(loss, metrics)


def train_outcome(
    config: MDNRNNConfig,
    mdnrnn: MDNRNN,
    batches: Iterator[Sequences],
    optimizer: torch.optim.Adam | None = None,
    first_step: int = 0,
) -> Steps:
    """Train what a finished M says of reward and end, from its h; M itself stays as it is.

    Yields the number of steps done and that step's loss with its parts, as of `outcome_loss`.
    Raises ValueError where there is nothing to train, FloatingPointError at a loss that isn't finite.
    """
    settings = config.outcome
    if settings is None or mdnrnn.to_outcome is None:
        raise ValueError("this M is to predict no outcome: its configuration has none")
    device = mdnrnn.to_mixture.weight.device
    optimizer = optimizer or adam(mdnrnn.to_outcome, settings.learning_rate)
    for step in range(first_step, settings.steps):
        sequences = _as_tensors(next(batches), device)
        with torch.no_grad():
            h, _ = mdnrnn.memory(sequences.z[:, :-1], sequences.action)
        loss, metrics = outcome_loss(mdnrnn, h, sequences, settings.end_weight)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / settings.steps)
        _descend(loss, optimizer, step)
        yield step + 1, _plain(loss, metrics)


def adam(module: nn.Module, learning_rate: float, fused: bool = False) -> torch.optim.Adam:
    """Adam over the weights of a module that are to be trained."""
    trainable = [weights for weights in module.parameters() if weights.requires_grad]
    return torch.optim.Adam(trainable, learning_rate, fused=fused)


def _set_rate(optimizer: torch.optim.Adam, config: VAEConfig | MDNRNNConfig, step: int) -> None:
    """The learning rate of a step, where it is to change evenly."""
    if config.learning_rate_end is not None:
        way = config.learning_rate_end - config.learning_rate
        optimizer.param_groups[0]["lr"] = config.learning_rate + way * step / config.steps


def _descend(
    loss: torch.Tensor, optimizer: torch.optim.Adam, step: int, clip: float | None = None
) -> None:
    if not torch.isfinite(loss):
        lost = "nothing was saved after the last checkpoint"
        raise FloatingPointError(f"the loss is {loss.item()} at step {step + 1}; {lost}")
    optimizer.zero_grad()
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_value_(optimizer.param_groups[0]["params"], clip)
    optimizer.step()


def _as_tensors(batch: Sequences, device: torch.device) -> Sequences:
    return Sequences(*(torch.from_numpy(part).to(device) for part in batch))


def _plain(loss: torch.Tensor, metrics: dict[str, torch.Tensor]) -> dict[str, float]:
    return {"loss": loss.item(), **{name: value.item() for name, value in metrics.items()}}


def vae_stage(run: Run, device: str = "cpu", skip_damaged: bool = False) -> Steps:
    """Train V on a run's episodes and keep it; continues what a stop left behind."""
    config = run.config
    torch.manual_seed(config.seed)
    vae = new_models(config)[0].to(device)
    paths = run.episode_paths()
    optimizer = adam(vae, config.vae.learning_rate, fused=True)

    def loop(first_step: int) -> Steps:
        batches = data.frame_batches(
            paths, config.vae.batch_size, config.seed, first_step, skip_damaged
        )
        return train_vae(config.vae, vae, batches, optimizer, config.seed, first_step)

    meta = _meta(run, device, paths)
    yield from _kept(run.folder / "vae", vae, optimizer, config.vae.steps, loop, meta)


def mdnrnn_stage(run: Run, device: str = "cpu", skip_damaged: bool = False) -> Steps:
    """Encode a run's episodes with its V, train on them every M that is its own, and keep them.

    First the agent's M, then those that only dream, then what they say of the outcome where that is
    trained after them. Continues what a stop left behind.
    """
    if run.config.mdnrnn is None:
        raise ValueError(f"the preset {run.config.preset} has no M to train")
    for share in encode_episodes(run, skip_damaged):
        yield 0, {"share of episodes encoded": share}
    before = 0
    for part in memory_steps(run):
        train = _memory_part if part.startswith("mdnrnn") else _outcome_part
        for step, metrics in train(run, part, device):
            yield before + step, metrics
        before += memory_steps(run)[part]


def memory_steps(run: Run) -> dict[str, int]:
    """The parts that a run trains in M's stage, in order, and the steps that each takes."""
    settings = run.config.mdnrnn
    if settings is None:
        return {}
    steps = dict.fromkeys(run.memories, settings.steps)
    if settings.outcome:
        steps |= dict.fromkeys(run.outcomes, settings.outcome.steps)
    return {part: steps[part] for part in steps if run.owner(part) == run}


def _memory_part(run: Run, part: str, device: str) -> Steps:
    settings = run.config.mdnrnn
    assert settings is not None
    seed = _seed(run, part)
    torch.manual_seed(seed)
    mdnrnn = new_models(run.config)[1]
    assert mdnrnn is not None
    mdnrnn.to(device)
    optimizer = adam(mdnrnn, settings.learning_rate)
    paths = _encoded(run)

    def loop(first_step: int) -> Steps:
        batches = data.sequence_batches(
            paths, settings.batch_size, settings.sequence_length, seed, first_step
        )
        return train_mdnrnn(settings, mdnrnn, batches, optimizer, first_step)

    meta = _meta(run, device, paths) | {"vae_sha256": run.weights_hash("vae")}
    yield from _kept(run.folder / part, mdnrnn, optimizer, settings.steps, loop, meta)


def _outcome_part(run: Run, part: str, device: str) -> Steps:
    settings = run.config.mdnrnn
    assert settings is not None and settings.outcome is not None
    memory = part.replace("outcome", "mdnrnn")
    seed = _seed(run, part)
    torch.manual_seed(seed)
    layers = outcome_layers(settings.hidden_size, settings.outcome.units).to(device)
    optimizer = adam(layers, settings.outcome.learning_rate)
    paths = _encoded(run)

    def loop(first_step: int) -> Steps:
        mdnrnn = load_memory(run, memory, with_outcome=False).to(device)
        mdnrnn.to_outcome = layers
        batches = data.sequence_batches(
            paths, settings.batch_size, settings.sequence_length, seed, first_step
        )
        return train_outcome(settings, mdnrnn, batches, optimizer, first_step)

    meta = _meta(run, device, paths) | {"mdnrnn_sha256": run.weights_hash(memory)}
    yield from _kept(run.folder / part, layers, optimizer, settings.outcome.steps, loop, meta)


def _seed(run: Run, part: str) -> int:
    """The run's seed for the agent's M, another for each of the others."""
    number = int(part.partition("_")[2] or 0)
    keyed = np.random.SeedSequence([run.config.seed, number]).generate_state(1)
    return int(keyed[0]) if number else run.config.seed


def _encoded(run: Run) -> list[Path]:
    return [path for path in run.latent_paths() if path.exists()]


def _meta(run: Run, device: str, paths: list[Path]) -> dict:
    config = run.config
    about = {"config": to_dict(config), "seed": config.seed, "device": device}
    return about | {"data_sha256": data.data_hash(paths)}


def _kept(folder: Path, module: nn.Module, optimizer, steps: int, loop: Loop, meta: dict) -> Steps:
    """Run a training loop with its history, progress and, at the end, weights kept in `folder`."""
    if all((folder / name).exists() for name in ("weights.safetensors", "meta.json")):
        return
    data_hash = meta["data_sha256"]
    first_step, seconds = checkpoint.load_progress(folder, module, optimizer, data_hash)
    started = time.time() - seconds  # as if it had never stopped
    folder.mkdir(parents=True, exist_ok=True)
    history = folder / "history.jsonl"
    every = max(1, steps // 300)
    checkpoint.keep_lines(history, first_step // every)
    for step, metrics in loop(first_step):
        if step % every == 0:
            checkpoint.append_line(history, {"step": step, **metrics})
        if step % SAVE_EVERY == 0 and step < steps:
            spent = time.time() - started
            checkpoint.save_progress(folder, module, optimizer, step, spent, data_hash)
        yield step, metrics
    meta = checkpoint.describe(started, metrics=metrics, **meta)
    checkpoint.save_weights(folder, checkpoint.to_half(module.state_dict()), meta)
    (folder / "progress.safetensors").unlink(missing_ok=True)


def encode_episodes(run: Run, skip_damaged: bool = False) -> Iterator[float]:
    """Encode those of a run's episodes that are not yet encoded, on all cores; yields the share done.

    Raises FileNotFoundError without a V, ValueError when the latents that there are belong to
    another V, or no episode is whole.
    """
    checkpoint.load_into(new_models(run.config)[0], run.part("vae"))  # reported before the work
    paths = run.episode_paths()
    targets = run.latent_paths()
    missing = [path for path, target in zip(paths, targets) if not target.exists()]
    if missing:
        run.bind_latents()
    jobs = [(run, missing[i : i + 8], skip_damaged) for i in range(0, len(missing), 8)]
    for done, _ in enumerate(parallel.run(encode_block, jobs), 1):
        yield min(1.0, (len(paths) - len(missing) + 8 * done) / len(paths))
    if not any(target.exists() for target in targets):
        lost = f"all {len(paths)} episodes of {run.folder} are damaged"
        raise ValueError(f"{lost}; delete them and run {run.collector.command('collect')} again")


def encode_block(run: Run, paths: list[Path], skip_damaged: bool) -> None:
    """Encode a few episodes, each into a file of its own under the same index."""
    vae = new_models(run.config)[0]
    checkpoint.load_into(vae, run.part("vae"))
    for path in paths:
        for episode in data.load_episodes([path], skip_damaged):
            run.latents.save(int(path.stem), encode_episode(vae, episode))


def encode_episode(vae: VAE, episode: Episode) -> EncodedEpisode:
    """An episode as V sees it."""
    return EncodedEpisode(
        *encode_frames(vae, episode.obs), episode.action, episode.reward, episode.terminated
    )


@torch.inference_mode()
def encode_frames(
    vae: VAE, obs: np.ndarray, batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray]:
    """mu and logvar, float32 (N, Z), of any number of frames, uint8 (N, 64, 64, 3)."""
    codes = [vae.encode(to_float(obs[i : i + batch_size])) for i in range(0, len(obs), batch_size)]
    return torch.cat([mu for mu, _ in codes]).numpy(), torch.cat(
        [logvar for _, logvar in codes]
    ).numpy()

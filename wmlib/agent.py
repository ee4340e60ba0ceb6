"""V, M and C together: the agent that looks, remembers and acts (paper, figure 8).

Letters: B environments, P candidates, N parameters, Z latents, H hidden, A action.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wmlib.checkpoint import load_into, load_weights, read_json
from wmlib.config import Config, ControllerConfig, from_dict, resolve
from wmlib.controller import Controller
from wmlib.data import check_memory
from wmlib.envs.task import Task, get_task
from wmlib.fast import lay_out
from wmlib.mdnrnn import MDNRNN, outcome_layers
from wmlib.vae import VAE, to_float


@dataclass
class AgentState:
    """What the agent carries from tick to tick: h and c (B, H), and where its noise comes from.

    mu, logvar and z (B, Z) are of the frame that it saw last; z is the code that C read, a draw or mu itself.
    """

    h: Tensor
    c: Tensor
    mu: Tensor
    logvar: Tensor
    z: Tensor
    generator: torch.Generator


class Agent:
    """One policy, or P policies that share V and M: params (P, N), each driving B / P of the environments.

    reads: the parts of C's input in their order, as in ControllerConfig. Without M (None) the agent remembers nothing
    and H is 0. V, M and C are used as they are, on the processor; nothing of them is changed. A V in bf16 is twice as
    fast where the processor knows that type, and its codes are the same to two or three digits.
    """

    def __init__(
        self, vae: VAE, mdnrnn: MDNRNN | None, controller: Controller, params: Tensor,
        task: Task = get_task(Config.task), reads: str = ControllerConfig.reads,
    ):  # fmt: skip
        self.vae, self.mdnrnn, self.controller, self.task = vae, mdnrnn, controller, task
        self.reads = ControllerConfig(reads).parts
        self.params = torch.atleast_2d(params)

    @staticmethod
    def load(folder: str | Path) -> "Agent":
        """The agent in a run's folder or in data/pretrained/car_racing.

        Raises FileNotFoundError for a part that is missing, ValueError for one that is damaged or of another size.
        """
        agent, folder = load_world_model(folder), resolve(folder)
        params = load_weights(folder / "controller").get("params", torch.empty(0))
        if params.shape != (agent.controller.num_params,):
            sizes = f"{params.numel()} parameters, expected {agent.controller.num_params}"
            raise ValueError(f"{folder}/controller holds {sizes}; check z_size, hidden_size and what C reads")
        agent.params = params[None]
        return agent

    def initial_state(self, B: int, seed: int | None = None) -> AgentState:
        """The state before the first observation of B environments; the same seed gives the same noise in z."""
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        z = torch.zeros(B, self.vae.z_size)
        h, c = self.mdnrnn.initial_state(B) if self.mdnrnn else (torch.zeros(B, 0), torch.zeros(B, 0))
        return AgentState(h, c, z, z, z, generator)

    @torch.inference_mode()
    def act(
        self, obs: np.ndarray, state: AgentState, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, AgentState]:
        """One tick: obs uint8 (B, 64, 64, 3) to action float32 (B, A) in the environment's units, and the next state.

        active: which environments still run (B,); the frames of the others are not encoded.
        Raises ValueError when obs has another shape or dtype, or active another length.
        """
        if active is not None and len(active) != len(state.h):
            raise ValueError(f"active has {len(active)} entries for a state of {len(state.h)} environments")
        obs, rows = np.asarray(obs), np.arange(len(state.h)) if active is None else np.flatnonzero(active)
        if obs.ndim == 4 and len(obs) != len(state.h):
            raise ValueError(f"{len(obs)} observations for a state of {len(state.h)} environments")
        x = to_float(obs[rows])
        mu, logvar = torch.zeros_like(state.z), torch.zeros_like(state.z)
        codes = self.vae.encode(x.to(self.vae.to_mu.weight.dtype))
        mu[rows], logvar[rows] = (code.float() for code in codes)
        z = mu if "mu" in self.reads else self.vae.sample(mu, logvar, state.generator)
        action = self.choose(z, state.h, state.c)
        h, c = state.h, state.c
        if self.mdnrnn:
            _, (h, c) = self.mdnrnn.memory(z[:, None], action[:, None], (h, c))
        return action.numpy(), AgentState(h, c, mu, logvar, z, state.generator)

    def choose(self, z: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """C alone: the code z (B, Z), h and c (B, H) to the action (B, A) in the environment's units."""
        parts = {"mu": z, "z": z, "h": h, "c": c}
        x = torch.cat([parts[name] for name in self.reads], dim=-1)  # (B, F)
        x = x.view(len(self.params), -1, x.shape[-1])  # (P, B / P, F)
        return self.task.squash(self.controller.act(self.params, x)).flatten(0, 1)


def load_config(folder: str | Path) -> Config:
    """The configuration that a run was made with; FileNotFoundError if the folder holds no run."""
    path = resolve(folder) / "config.json"
    if not path.exists():
        command = f"python -m wmlib collect --run {folder}"
        raise FileNotFoundError(f"{resolve(folder)} holds no run (no config.json); make one with {command}")
    return from_dict(read_json(path))


def load_world_model(folder: str | Path) -> Agent:
    """An agent with a run's V and M and a controller of zeros, which steers straight on at half throttle."""
    folder, config = resolve(folder), load_config(folder)
    vae, mdnrnn, controller = new_models(config)
    load_into(vae, folder / "vae")
    if mdnrnn:
        load_into(mdnrnn, folder / "mdnrnn")
        mdnrnn.to_ahead = None  # a question for training alone
        if (folder / "outcome").exists():  # trained later, on M's h
            mdnrnn.to_outcome = outcome_layers(mdnrnn.hidden_size).requires_grad_(False)
            load_into(mdnrnn.to_outcome, folder / "outcome")
        check_memory(folder)
    lay_out(vae.encoder)
    zeros = torch.zeros(controller.num_params)
    return Agent(vae, mdnrnn, controller, zeros, get_task(config.task), config.controller.reads)


def new_models(config: Config) -> tuple[VAE, MDNRNN | None, Controller]:
    """Untrained V, M and C of the sizes that a configuration names; M is None where it names none."""
    action_size, memory, mdnrnn = get_task(config.task).action_size, config.mdnrnn, None
    Z, H = config.vae.z_size, memory.hidden_size if memory else 0
    vae = VAE(Z)
    if memory:
        mdnrnn = MDNRNN(Z, action_size, H, memory.num_mixtures, memory.outcome, memory.look_ahead)
    inputs = sum({"mu": Z, "z": Z, "h": H, "c": H}[part] for part in config.controller.parts)
    return vae, mdnrnn, Controller(inputs, action_size, config.controller.bias, config.controller.hidden_size)

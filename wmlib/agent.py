"""V, M and C together: the agent that looks, remembers and acts (paper, figure 8).

Letters: B environments, P candidates, N parameters, Z latents, H hidden, A action.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wmlib.checkpoint import load_into, load_weights, read_json
from wmlib.config import Config, from_dict, resolve
from wmlib.controller import Controller
from wmlib.envs.task import CAR_RACING, Task
from wmlib.mdnrnn import MDNRNN
from wmlib.vae import VAE, to_float


@dataclass
class AgentState:
    """What the agent carries from tick to tick: h and c (B, H), the last z (B, Z), and where its noise comes from."""

    h: Tensor
    c: Tensor
    z: Tensor
    generator: torch.Generator


class Agent:
    """One policy, or P policies that share V and M: params (P, N), each driving B / P of the environments.

    Without M (None) the agent remembers nothing, H is 0 and C sees z alone.
    """

    def __init__(self, vae: VAE, mdnrnn: MDNRNN | None, controller: Controller, params: Tensor, task: Task = CAR_RACING):
        self.vae = vae.eval()
        vae.encoder.to(memory_format=torch.channels_last)  # as frames lie in memory
        self.mdnrnn, self.controller, self.task = mdnrnn and mdnrnn.eval(), controller, task
        self.params = torch.atleast_2d(params)

    @staticmethod
    def load(folder: str | Path) -> "Agent":
        """The agent in a run's folder or in data/pretrained/car_racing.

        Raises FileNotFoundError for a part that is missing, ValueError for one that is damaged or of another size.
        """
        agent, folder = load_world_model(folder), resolve(folder)
        params = load_weights(folder / "controller").get("params", torch.empty(0))
        if params.shape != (agent.controller.num_params,):
            raise ValueError(
                f"{folder}/controller holds {params.numel()} parameters, expected {agent.controller.num_params}; check z_size and hidden_size"
            )
        agent.params = params[None]
        return agent

    def initial_state(self, B: int, seed: int | None = None) -> AgentState:
        """The state before the first observation of B environments; the same seed gives the same noise in z."""
        generator = torch.Generator()
        generator.manual_seed(seed) if seed is not None else generator.seed()
        z = self.vae.to_mu.weight.new_zeros(B, self.vae.z_size)
        h, c = self.mdnrnn.initial_state(B) if self.mdnrnn else z.new_zeros(2, B, 0)
        return AgentState(h, c, z, generator)

    @torch.inference_mode()
    def act(self, obs: np.ndarray, state: AgentState, active: np.ndarray | None = None) -> tuple[np.ndarray, AgentState]:
        """One tick: obs uint8 (B, 64, 64, 3) to action float32 (B, A) in the environment's units, and the next state.

        active: which environments still run (B,); the frames of the others are not encoded.
        Raises ValueError when obs has another shape or dtype, or active another length.
        """
        if active is not None and len(active) != len(state.h):
            raise ValueError(f"active has {len(active)} entries for a state of {len(state.h)} environments")
        rows = torch.arange(len(state.h)) if active is None else torch.from_numpy(np.flatnonzero(active))
        x = to_float(np.asarray(obs)).to(state.h.device)
        if len(x) != len(state.h):
            raise ValueError(f"{len(x)} observations for a state of {len(state.h)} environments")
        mu, logvar = torch.zeros_like(state.z), torch.zeros_like(state.z)
        mu[rows], logvar[rows] = self.vae.encode(x[rows])
        z = self.vae.sample(mu.cpu(), logvar.cpu(), state.generator).to(mu.device)  # C sees z, not mu, as in the paper's code
        action = self.choose(z, state.h)
        h, c = state.h, state.c
        if self.mdnrnn:
            _, (h, c) = self.mdnrnn.memory(z[:, None], action[:, None], (h, c))
        return action.cpu().numpy(), AgentState(h, c, z, state.generator)

    def choose(self, z: Tensor, h: Tensor) -> Tensor:
        """C alone: z (B, Z) and h (B, H) to the action (B, A) in the environment's units."""
        x = torch.cat([z, h], dim=-1).view(len(self.params), -1, z.shape[-1] + h.shape[-1])  # (P, B / P, Z + H)
        return self.task.squash(self.controller.act(self.params, x)).flatten(0, 1)


def load_config(folder: str | Path) -> Config:
    """The configuration that a run was made with; FileNotFoundError if the folder holds no run."""
    path = resolve(folder) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{resolve(folder)} holds no run (no config.json); make one with python -m wmlib collect --run {folder}")
    return from_dict(read_json(path))


def load_world_model(folder: str | Path) -> Agent:
    """An agent with a run's V and M and a controller of zeros, which steers straight on at half throttle."""
    folder, config = resolve(folder), load_config(folder)
    vae, mdnrnn, controller = new_models(config)
    load_into(vae, folder / "vae")
    if mdnrnn:
        load_into(mdnrnn, folder / "mdnrnn")
    return Agent(vae, mdnrnn, controller, torch.zeros(1, controller.num_params))


def new_models(config: Config, task: Task = CAR_RACING) -> tuple[VAE, MDNRNN | None, Controller]:
    """Untrained V, M and C of the sizes that a configuration names; M is None where it names none."""
    z_size, memory = config.vae.z_size, config.mdnrnn
    mdnrnn = memory and MDNRNN(z_size, task.action_size, memory.hidden_size, memory.num_mixtures)
    return VAE(z_size), mdnrnn, Controller(z_size + (memory.hidden_size if memory else 0), task.action_size)

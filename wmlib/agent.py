"""V, M and C together: the agent that looks, remembers and acts (paper, figure 8).

Letters: B environments, P candidates, N parameters, Z latents, H hidden, A action.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wmlib.checkpoint import load_into, load_weights
from wmlib.config import Config, ControllerConfig
from wmlib.controller import Controller
from wmlib.envs.task import Task, get_task
from wmlib.fast import to_channels_last
from wmlib.mdnrnn import MDNRNN, outcome_layers
from wmlib.run import Run, open_run
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
    """One policy, or P policies that share V and M: params (P, N), each driving B / P environments.

    reads: the parts of C's input in their order, as in ControllerConfig. Without M (None) the agent
    remembers nothing and H is 0. V, M and C are used as they are, on the processor; nothing of them
    is changed. A V in bf16 is twice as fast where the processor knows that type, and its codes are
    the same to two or three digits. driver: its name in the episodes that it drives.
    """

    def __init__(
        self,
        vae: VAE,
        mdnrnn: MDNRNN | None,
        controller: Controller,
        params: Tensor,
        task: Task,
        reads: str = ControllerConfig.reads,
        driver: str = "agent",
    ):
        self.vae = vae
        self.mdnrnn = mdnrnn
        self.controller = controller
        self.params = torch.atleast_2d(params)
        self.task = task
        self.reads = ControllerConfig(reads).parts
        self.driver = driver

    @staticmethod
    def load(folder: str | Path) -> "Agent":
        """The agent in a run's folder or in data/pretrained/car_racing.

        Raises FileNotFoundError for a part that is missing, ValueError for one that is damaged or of
        another size.
        """
        run = open_run(folder)
        agent = load_world_model(run)
        params = load_weights(run.part("controller")).get("params", torch.empty(0))
        if params.shape != (agent.controller.num_params,):
            sizes = f"{params.numel()} parameters, expected {agent.controller.num_params}"
            odd = f"{run.part('controller')} holds {sizes}"
            raise ValueError(f"{odd}; check z_size, hidden_size and what C reads")
        agent.params = params[None]
        agent.driver = f"agent {run.weights_hash('controller')[:12]}"
        return agent

    def initial_state(self, B: int, seed: int | None = None) -> AgentState:
        """The state before the first observation of B environments; the same seed gives the same noise in z."""
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        z = torch.zeros(B, self.vae.z_size)
        h, c = (
            self.mdnrnn.initial_state(B) if self.mdnrnn else (torch.zeros(B, 0), torch.zeros(B, 0))
        )
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
            raise ValueError(
                f"active has {len(active)} entries for a state of {len(state.h)} environments"
            )
        obs = np.asarray(obs)
        rows = np.arange(len(state.h)) if active is None else np.flatnonzero(active)
        if obs.ndim == 4 and len(obs) != len(state.h):
            raise ValueError(f"{len(obs)} observations for a state of {len(state.h)} environments")
        x = to_float(obs[rows])
        mu = torch.zeros_like(state.z)
        logvar = torch.zeros_like(state.z)
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


def load_world_model(run: Run) -> Agent:
    """An agent with a run's V and M and a controller of zeros: straight on at half throttle."""
    config = run.config
    vae, _, controller = new_models(config)
    load_into(vae, run.part("vae"))
    to_channels_last(vae.encoder)
    mdnrnn = load_memory(run, "mdnrnn") if config.mdnrnn else None
    params = torch.zeros(controller.num_params)
    task, reads = get_task(config.task), config.controller.reads
    return Agent(vae, mdnrnn, controller, params, task, reads)


def load_memory(run: Run, part: str, with_outcome: bool = True) -> MDNRNN:
    """One M of a run, the agent's own or one that only dreams, with what it says of the outcome."""
    _, mdnrnn, _ = new_models(run.owner(part).config)
    if mdnrnn is None:
        raise ValueError(f"{run.folder} has no M")
    load_into(mdnrnn, run.part(part))
    run.check_memory(part)
    mdnrnn.to_ahead = None  # a question for training alone
    outcome = part.replace("mdnrnn", "outcome")
    settings = run.config.mdnrnn.outcome if run.config.mdnrnn else None
    if with_outcome and settings and outcome in run.outcomes:
        mdnrnn.to_outcome = outcome_layers(mdnrnn.hidden_size, settings.units)
        mdnrnn.to_outcome.requires_grad_(False)
        load_into(mdnrnn.to_outcome, run.part(outcome))
    return mdnrnn


def new_models(config: Config) -> tuple[VAE, MDNRNN | None, Controller]:
    """Untrained V, M and C of the sizes that a configuration names; M is None where it names none.

    What M says of the outcome is among its weights only where both are trained together.
    """
    A = get_task(config.task).action_size
    Z = config.vae.z_size
    H = config.mdnrnn.hidden_size if config.mdnrnn else 0
    vae = VAE(Z)
    mdnrnn = None
    if config.mdnrnn:
        outcome = config.mdnrnn.outcome
        mdnrnn = MDNRNN(
            z_size=Z,
            action_size=A,
            hidden_size=H,
            num_mixtures=config.mdnrnn.num_mixtures,
            outcome=outcome is not None and outcome.trained == "with",
            look_ahead=config.mdnrnn.look_ahead,
            outcome_units=outcome.units if outcome else 0,
        )
    inputs = sum({"mu": Z, "z": Z, "h": H, "c": H}[part] for part in config.controller.parts)
    controller = Controller(inputs, A, config.controller.bias, config.controller.hidden_size)
    return vae, mdnrnn, controller

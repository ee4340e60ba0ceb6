"""The environments; importing this registers the tasks, and "wmlib/FastCarRacing-v3" with gymnasium."""

import gymnasium as gym

from wmlib.envs import car_racing as car_racing

gym.register(
    id="wmlib/FastCarRacing-v3",
    entry_point="wmlib.envs.car_racing:FastCarRacing",
    max_episode_steps=1000,
)

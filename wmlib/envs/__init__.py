"""The environments; importing this registers "wmlib/FastCarRacing-v3" with gymnasium."""

import gymnasium as gym

gym.register(id="wmlib/FastCarRacing-v3", entry_point="wmlib.envs.car_racing:FastCarRacing", max_episode_steps=1000)

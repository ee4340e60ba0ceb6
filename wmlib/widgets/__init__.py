"""What a notebook lets the reader move: seen in the browser, computed here by plain methods, which need no browser."""

from wmlib.widgets.explorer import LatentExplorer
from wmlib.widgets.hunt import Hunt
from wmlib.widgets.player import DreamPlayer, Player
from wmlib.widgets.scrubber import Scrubber
from wmlib.widgets.sliders import Sliders

__all__ = ["DreamPlayer", "Hunt", "LatentExplorer", "Player", "Scrubber", "Sliders"]

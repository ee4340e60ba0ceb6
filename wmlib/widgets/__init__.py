"""What a notebook lets the reader move: seen in the browser, computed here.

Callbacks are plain methods, so that tests call them without a browser.
"""

from wmlib.widgets.explorer import LatentExplorer
from wmlib.widgets.player import DreamPlayer, Player
from wmlib.widgets.scrubber import Scrubber
from wmlib.widgets.sliders import Sliders

__all__ = ["DreamPlayer", "LatentExplorer", "Player", "Scrubber", "Sliders"]

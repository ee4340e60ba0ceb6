"""Fixtures that more than one test file uses."""

import pytest
import torch

from browser import chromium, jupyter_home, jupyterlab, page  # noqa: F401
from wmlib import parallel


@pytest.fixture(scope="module")
def one_thread():
    """As in the processes that are killed; and no worker of another test's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parallel.stop()
    yield
    parallel.stop()
    torch.set_num_threads(threads)

"""Fixtures that more than one test file uses."""

from browser import chromium, jupyter_home, jupyterlab, page  # noqa: F401

"""Fixtures that more than one test file uses."""

from browser import chromium, jupyterlab, page  # noqa: F401

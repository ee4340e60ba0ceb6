"""What a reader sees after `make course`, seen in headless Chromium."""

from browser import run_all, troubles

LOADED = "images => images.every(image => image.complete && image.naturalWidth > 0)"


def test_the_first_notebook_runs_without_an_error_and_shows_a_picture(page):
    run_all(page)
    assert troubles(page) == []
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    assert prompts and not {"[ ]:", "[*]:"} & set(prompts)
    assert page.locator(".jp-OutputArea-output img").count() > 0
    assert page.locator(".jp-Notebook img").evaluate_all(LOADED)

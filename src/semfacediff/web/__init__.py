"""``semfacediff web``: one person edits photos in the browser, on this computer.

:mod:`.portrait` is what happens to a photo, :mod:`.styling` what is made of two; neither knows of a page. :mod:`.store`
holds the models that all open pages share, :mod:`.jobs` ends what is made. :mod:`.pictures` and :mod:`.wording` are
what is shown, :mod:`.files` where files lie. :mod:`.page` and its tabs alone import Gradio; :mod:`.server` serves the
page, and :mod:`.access` says to whom.
"""

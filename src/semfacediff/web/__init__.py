"""``semfacediff web``: edit a photo in the browser, on this computer.

:mod:`.portrait` is what happens to a visitor's photo and knows nothing of a page; :mod:`.desk` holds the models that
all visitors share; :mod:`.pictures` and :mod:`.wording` are what is shown; :mod:`.page` alone imports Gradio, and
:mod:`.server` serves it.
"""

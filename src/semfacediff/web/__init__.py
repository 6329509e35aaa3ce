"""``semfacediff web``: edit a photo in the browser, on this computer.

:mod:`.portrait` is what happens to a visitor's photo, :mod:`.styling` what is made of two of them; neither knows of a
page. :mod:`.desk` holds the models that all visitors share, :mod:`.jobs` ends what runs for them. :mod:`.pictures` and
:mod:`.wording` are what is shown, :mod:`.files` where files lie. :mod:`.page` and its tabs alone import
Gradio, and :mod:`.server` serves it.
"""

"""``semfacediff web``: a local web page on which one user edits photos.

:mod:`.portrait` edits a photo and :mod:`.styling` combines two; neither depends on the page. :mod:`.model_store`
holds the models that all open pages share, and :mod:`.jobs` stops running jobs. :mod:`.pictures` and :mod:`.wording`
render the output, and :mod:`.files` manages files. Only :mod:`.page` and its tabs import Gradio. :mod:`.server` serves
the page, and :mod:`.access` restricts access to it.
"""

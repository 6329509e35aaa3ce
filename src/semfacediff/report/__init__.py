"""An HTML page of records: one file, no server, no network.

:func:`semfacediff.report.page.render` renders the records that :mod:`.reading` found. The templates draw plots as SVG
and HTML (:mod:`.charts` computes positions), so that they adapt to the reader's colours and window width, work with
screen readers, and stay small.
"""

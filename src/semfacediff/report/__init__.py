"""A page that shows records to a person: one file, no server, no network.

Everything on it is made from records: :func:`semfacediff.report.page.render` takes what :mod:`.reading` found. Plots
are drawn by the templates as SVG and HTML (:mod:`.charts` computes the places), so that they follow the reader's
colours and width, can be read by a screen reader, and weigh little.
"""

"""Colours in words: the tables of names, the grammar that finds them in a prompt, and OKLab."""

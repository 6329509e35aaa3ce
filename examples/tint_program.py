"""A program of its own: mixes a colour into the region; it knows nothing of semfacediff.

semfacediff evaluate editor=command 'editor.command=[python,tint_program.py,"{photo}","{mask}","{out}"]'
"""

import sys

from PIL import Image

photo, mask, out = sys.argv[1:]
with Image.open(photo) as before, Image.open(mask) as region:
    tinted = Image.blend(before, Image.new("RGB", before.size, (120, 40, 160)), 0.5)
    Image.composite(tinted, before, region).save(out)

"""Faces in a photo of any size: detection, five points, alignment. Needs the extra ``faces``, and no other stage."""

"""SemFaceDiff: semantic face editing, from label map to table.

    photo + labels -> parser -> label map -> region mask -> editor -> edited photo -> parser again -> metrics -> records
       data/         parsing/              regions/       editing/                                 metrics/   records/

Inside the library images are float32 ``[N,3,H,W]`` in [0,1] (RGB), label maps int64 ``[N,H,W]``, region masks float32
``[N,1,H,W]`` in [0,1] with 1 = may be edited. Other ranges exist only inside the adapter that needs them.
"""

__version__ = "0.1.0"

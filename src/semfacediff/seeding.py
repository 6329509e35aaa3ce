"""Seeds that depend on what is being made, never on when or beside what it is made."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) from ``parts``, e.g. run seed, sample id, attribute; the same on every machine.

    Deriving instead of drawing makes results independent of batch size, order, sharding and resume.
    """
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

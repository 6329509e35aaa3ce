"""What the channels of a published model stand for: by the names of its classes, or by what the configuration says."""

from collections.abc import Sequence
from dataclasses import dataclass

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES, LabelSpace, class_named, space

Stated = str | Sequence[str | None]
"""``parser.label_space``: a space's name, or the class of each channel of the model (``None``: none of ours)."""
_SHOWN = 20


@dataclass(frozen=True)
class ClassOrder:
    """``rows``: channel of the model for each class of ``space``, ``None``: it has none; ``channels``: how many it has.

    ``said_by``: what told it.
    """

    space: LabelSpace
    rows: tuple[int | None, ...]
    channels: int
    said_by: str

    @classmethod
    def own(cls, of: LabelSpace, said_by: str) -> "ClassOrder":
        """The channels of a model that is in the order of ``of``."""
        return cls(of, tuple(range(of.n)), of.n, said_by)


def order_of(names: Sequence[str], where: str) -> ClassOrder:
    """By the model's own class names, in the usual spellings.

    Args:
        where: what tells them, for messages.

    Raises:
        UserError: they are not those of one label space; the sentence lists them and says how to give the order.
    """
    known = [class_named(name) for name in names]
    if None not in known and len(set(known)) == len(known):
        candidates = [s for s in SPACES.values() if set(s.classes) == set(known)]
        same_order = [s for s in candidates if list(s.classes) == known]
        for s in same_order or candidates:
            return _ordered(s, known, "id2label")
    raise UserError(
        f"{where}: its {len(names)} classes are those of no label space here ({_misfit(names, known)}); say what the "
        f"model's channels stand for: parser.label_space=NAME ({', '.join(SPACES)}), or the class names in the "
        f"model's order, parser.label_space=[{','.join(CELEBAMASK.classes[:3])},...], null for a channel that is none "
        f"of them; as a start for training set parser.pretrained"
    )


def stated_order(stated: Stated, names: Sequence[str] | None, where: str) -> ClassOrder:
    """By what ``parser.label_space`` says; a class that a list leaves out is never predicted.

    Args:
        names: the model's own class names, if it has some.

    Raises:
        UserError: another number of channels, an unknown class, or one twice.
    """
    if isinstance(stated, str):
        found = ClassOrder.own(space(stated), "parser.label_space")
        _check_count(found.channels, names, where, f"parser.label_space={stated} has {found.channels} classes")
        return found
    _check_count(len(stated), names, where, f"parser.label_space lists {len(stated)}")
    known = [None if name is None else class_named(name) for name in stated]
    given = [k for k in known if k is not None]
    odd = [name for name, k in zip(stated, known, strict=True) if name is not None and k is None]
    odd += [k for k in dict.fromkeys(given) if given.count(k) > 1]
    if odd or not given:
        raise UserError(
            f"parser.label_space: expected for each channel one of {', '.join(CELEBAMASK.classes)}, each once, or "
            f"null, got {', '.join(odd) or 'null alone'}"
        )
    fitting = [s for s in SPACES.values() if set(given) <= set(s.classes)]
    return _ordered(min(fitting, key=lambda s: s.n), known, "parser.label_space")


def _ordered(target: LabelSpace, known: Sequence[str | None], said_by: str) -> ClassOrder:
    rows = tuple(known.index(c) if c in known else None for c in target.classes)
    return ClassOrder(target, rows, len(known), said_by)


def _check_count(count: int, names: Sequence[str] | None, where: str, said: str) -> None:
    if names is not None and len(names) != count:
        raise UserError(
            f"{said}, but {where} names {len(names)} ({_listed(names)}); give the class of each channel in the model's "
            f"order, parser.label_space=[...], null for a channel that is none of them"
        )


def _misfit(names: Sequence[str], known: Sequence[str | None]) -> str:
    """Why ``names`` are not the classes of a space."""
    pairs = list(zip(names, known, strict=True))
    lists = {
        "not matched": [name for name, k in pairs if k is None],
        "of one class": [name for name, k in pairs if k is not None and known.count(k) > 1],
        "missing": [c for c in CELEBAMASK.classes if c not in known],
    }
    return "; ".join(f"{what}: {_listed(which)}" for what, which in lists.items() if which)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

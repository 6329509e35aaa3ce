"""What the configuration says of objects that :mod:`semfacediff.plugins` finds by their name."""

from collections.abc import Callable
from typing import ClassVar, get_args

from pydantic import ConfigDict, model_validator

from semfacediff.config.closed import Closed
from semfacediff.plugins import completed, named


class Plugged(Closed):
    """``name`` is that of a module or an entry point; every key without a field here is one of its options.

    ``<kind>=python <kind>.target=module:Class <kind>.options={...}`` names it by its class.
    """

    model_config = ConfigDict(extra="allow")
    kind: ClassVar[str]
    name: str

    @model_validator(mode="before")
    @classmethod
    def _found(cls, plain: object) -> object:
        if not isinstance(plain, dict):
            return plain
        own = {key: plain[key] for key in cls.model_fields if key in plain and key != "name"}
        name, options = named(cls.kind, {key: value for key, value in plain.items() if key not in own})
        return {"name": name, **own, **completed(cls.kind, name, options)}

    @property
    def options(self) -> dict[str, object]:
        return dict(self.model_extra or {})


def tag_of(closed: tuple[type[Closed], ...]) -> Callable[[object], str]:
    """For a union's discriminator: of settings, the first ``name`` of the class in ``closed`` that has theirs, or
    ``other``: a class of one's own, whose options are checked by itself."""

    def tag(settings: object) -> str:
        name = settings.get("name") if isinstance(settings, dict) else getattr(settings, "name", None)
        names = (get_args(of.model_fields["name"].annotation) for of in closed)
        return next((of[0] for of in names if name in of), "other")

    return tag

"""What the configuration says of objects that :mod:`semfacediff.plugins` finds by their name."""

from typing import ClassVar

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

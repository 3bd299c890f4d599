"""Where a content store is."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ContentLocation:
    """A URL such as file:///srv/content or s3://bucket/prefix, and obstore's options for it, which may be secret."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

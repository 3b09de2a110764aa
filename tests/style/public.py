"""What users may touch: the public names of ringloop and the public attributes of its classes."""

import warnings
from collections.abc import Iterator

import ringloop


def public_names() -> dict[str, object]:
    """The objects that `ringloop.__all__` names. The policy's is deprecated from Python 3.14 on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return {name: getattr(ringloop, name) for name in ringloop.__all__}


def public_attributes() -> Iterator[tuple[type, str]]:
    """The attributes that ringloop's own classes give to those of its public classes that stand on them."""
    for public in public_names().values():
        if isinstance(public, type):
            for cls in public.__mro__:
                if cls.__module__.partition(".")[0] == "ringloop":
                    yield from ((cls, name) for name in vars(cls) if not name.startswith("_"))

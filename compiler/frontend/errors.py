"""What an importer of one operator raises, before anybody has said which node it was.

In: what the operator cannot do. Out: `Unsupported`, which the importer turns into one `UnsupportedError`
naming every such node of the model at once.
"""

from __future__ import annotations

from collections.abc import Iterable


class Unsupported(Exception):
    """`what` the node asks for ("Resize mode 'cubic'") and what is `supported` instead ("nearest,
    linear"). `sources` are the model inputs that would have to be constants.
    """

    def __init__(self, what: str, supported: str = "", sources: Iterable[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.supported = supported
        self.sources = frozenset(sources)

"""The one exception for faults that the user can mend."""

from __future__ import annotations


class MiravoxError(Exception):
    """A fault in what the user gave: names the thing, what was found, what was wanted, and the remedy, on one line.

    Commands print it without a traceback and exit with code 2.
    """

    def __init__(self, thing: str, *, found: str, wanted: str, remedy: str) -> None:
        self.thing, self.found, self.wanted, self.remedy = thing, found, wanted, remedy
        super().__init__(f"{thing}: found {found}; wanted {wanted}. {remedy}".replace("\n", " "))

"""The error of an option that cannot work, as the programs show it: one line, no traceback.

This module owns its form. What each option must be is with the module that uses it.
"""

from __future__ import annotations


class OptionError(ValueError):
    """An option has a value that cannot work; the text names the option, what was found, and what would do.

    Attributes:
        option: The name of the option, as Python spells it.
        problem: What was found, and what would do.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the two arguments of the constructor, not the one text made of them."""
        return type(self), (self.option, self.problem)

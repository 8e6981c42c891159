"""The error for an invalid option, which the programs show as one line without a traceback.

This module owns its form. The module that uses an option defines its valid values.
"""

from __future__ import annotations


class OptionError(ValueError):
    """An option has an invalid value; the text names the option, the value found, and what is expected.

    Attributes:
        option: The name of the option, as Python spells it.
        problem: The value found, and what is expected.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the two arguments of the constructor, not with the one text made from them."""
        return type(self), (self.option, self.problem)

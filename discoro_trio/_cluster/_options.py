"""Checks of options that schedulers, nodes and computations share.

Each check returns the value to use, or raises an error with the value found, the value expected and the setting that
changes it.
"""

from __future__ import annotations

from .._arguments import number
from .._config import config
from .._link import OptionError


def check_pulse_interval(value: float | None) -> float:
    """Return the seconds between heartbeats; `config.MinPulseInterval` by default.

    Raises:
        OptionError: It is not between `config.MinPulseInterval` and `config.MaxPulseInterval`.
    """
    low, high = config.MinPulseInterval, config.MaxPulseInterval
    if value is None:
        return low
    checked = number("pulse_interval", value)
    if not low <= checked <= high:
        option, bounds = "pulse_interval", "config.MinPulseInterval to config.MaxPulseInterval"
        raise OptionError(option, f"{checked:g} s is outside of {bounds}, {low:g} to {high:g} s")
    return checked


def check_period(name: str, value: float | None) -> float | None:
    """Return a number of seconds that is not negative, or None.

    Raises:
        ValueError: It is negative or not a number.
    """
    if value is None:
        return None
    checked = number(name, value)
    if not checked >= 0:
        message = f"{name} must be 0 or more seconds, or None, not {value!r}"
        raise ValueError(message)
    return checked

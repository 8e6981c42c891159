"""Every option of every program has a test of its effect."""

from __future__ import annotations

import pytest

from .option_table import commands, named_by_tests

COMMANDS = commands()
NAMED = named_by_tests()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_test_that_sees_its_effect(command: str) -> None:
    missing = sorted(option for option in COMMANDS[command] if f"{command} {option}" not in NAMED)
    assert not missing, 'write a test of what each does, and mark it with pytest.mark.option("COMMAND --OPTION")'


def test_tests_name_options_that_exist() -> None:
    assert NAMED.keys() <= {f"{command} {option}" for command, options in COMMANDS.items() for option in options}

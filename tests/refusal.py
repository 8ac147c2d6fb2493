"""What a command says where it refuses to work."""

from collections.abc import Sequence
from types import ModuleType

import pytest

from sheap_jax import command_line


def refusal(command: ModuleType, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error that the command expects; of wrong options, what argparse says."""
    with pytest.raises(SystemExit) as stopped:
        command_line.run(command.main, arguments, command.ERRORS)
    if not isinstance(stopped.value.code, str):  # the parser's, which has printed its message
        assert stopped.value.code == 2
        return capsys.readouterr().err
    assert stopped.value.code.startswith("error: ")
    assert "\n" not in stopped.value.code
    return stopped.value.code

"""What every command does with the errors of its work."""

import pytest

from sheap_jax import command_line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a.jpg is odd"), "error: a.jpg is odd"),
        (MemoryError("Unable to allocate 32.0 GiB\nfor an array"), "error: not enough memory"),
        (MemoryError(), "error: not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "error: something is nested too deep"),
    ],
)
def test_expected_errors_and_those_of_size_are_one_line(error, words):
    def main(arguments):
        raise error

    with pytest.raises(SystemExit) as stopped:
        command_line.run(main, [], (ValueError,))
    assert str(stopped.value).startswith(words)
    assert "\n" not in str(stopped.value)
    with pytest.raises(type(error)):
        command_line.run(main, ["-v"], (ValueError,))


def test_other_errors_are_shown_whole():
    def main(arguments):
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        command_line.run(main, [], (ValueError,))


@pytest.mark.parametrize("module", ["google.auth.exceptions", "gcsfs.retry", "aiohttp.client_exceptions"])
def test_errors_of_a_bucket_are_one_line(module):
    error = type("RefreshError", (Exception,), {"__module__": module})("no\nway")

    def main(arguments: list[str]) -> None:
        raise error

    with pytest.raises(SystemExit, match="error: a request to a bucket failed: RefreshError: no way"):
        command_line.run(main, [], (ValueError,))
    with pytest.raises(type(error)):
        command_line.run(main, ["-v"], (ValueError,))


def test_other_errors_of_the_same_owner_are_shown_whole():
    error = type("DecodeError", (Exception,), {"__module__": "google.protobuf.message"})("truncated")

    def main(arguments: list[str]) -> None:
        raise error

    with pytest.raises(type(error), match="truncated"):
        command_line.run(main, [], (ValueError,))

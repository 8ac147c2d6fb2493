"""The visit keeps what its items say, whatever becomes of them. Its scripts are tried in test_scripts.py."""

import argparse
import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {benchmarks!r})
from timing import wait_for_turn
output = sys.argv[sys.argv.index("--output") + 1]
{body}
"""
SAY = "open(output, 'w').write(json.dumps({'value': %s}))\n"
BODIES = {
    "good": SAY % 1 + "print('a line for the log')",
    "bad": SAY % 2 + "sys.exit(3)",
    "slow": SAY % 3 + "time.sleep(60)",
    "half": "open(output, 'w').write('{')\ntime.sleep(60)",
    "first": "left = wait_for_turn(); begin = time.time(); time.sleep(0.3)\n" + SAY % "[left, begin, time.time()]",
    "second": "left = wait_for_turn(); begin = time.time(); time.sleep(0.3)\n" + SAY % "[left, begin, time.time()]",
    "late": "time.sleep(60)\nwait_for_turn()",
}


@pytest.fixture
def visit(load, monkeypatch, tmp_path):
    """visit(items, *arguments): table and results of made-up items."""
    gpu_visit = load("gpu_visit")
    monkeypatch.setattr(gpu_visit, "POLL_SECONDS", 0.05)

    def item(name, *, seconds=30.0, when="alone", needs=()):
        script = tmp_path / f"{name}.py"
        script.write_text(SCRIPT.format(body=BODIES[name], benchmarks=str(ROOT / "benchmarks")))
        return gpu_visit.Item(name, seconds, [str(script)], [], lambda one: f"value {one['value']}", when, needs)

    def call(items, *arguments):
        made = [item(name, **options) for name, options in items.items()]
        monkeypatch.setitem(gpu_visit.LISTS, "first", made)
        monkeypatch.setattr(sys, "argv", ["gpu_visit.py", "--output", str(tmp_path / "out"), *arguments])
        with pytest.raises(SystemExit) as end:
            gpu_visit.main()
        found = json.loads((tmp_path / "out/visit.json").read_text())
        states = [found[name]["state"] for name in items]
        assert end.value.code == any(state.startswith(("failed", "stopped")) for state in states)
        return found

    return call


def test_what_fails_or_takes_too_long_does_not_stop_the_rest(visit, tmp_path, capsys):
    items = {"bad": {}, "slow": {"seconds": 1.0}, "half": {"seconds": 1.0}, "good": {"needs": ("json",)}}
    found = visit(items)
    assert found["bad"]["state"].startswith("failed: exit code 3")
    assert found["slow"]["state"] == "stopped after its 1 s"
    assert found["good"]["state"] == "done"
    # What was written before the end is kept.
    assert [found[name]["result"] for name in items] == [{"value": 2}, {"value": 3}, {}, {"value": 1}]
    rows = capsys.readouterr().out.splitlines()
    assert any(row.startswith("| good | done |") and "value 1" in row for row in rows)
    assert "a line for the log" in (tmp_path / "out/log_good.txt").read_text()


def test_packages_that_are_missing_are_named(visit):
    found = visit({"good": {"needs": ("json", "no_such_package")}})
    assert found["good"]["state"] == "left out: needs no_such_package"


def test_the_end_of_the_visit_holds_for_all(visit):
    begin = time.monotonic()
    found = visit({"slow": {}, "good": {}}, "--minutes", "0.1")
    assert time.monotonic() - begin < 30
    assert found["slow"]["state"].startswith("stopped after its 6")
    assert found["good"]["state"] == "left out: no time"


def test_items_prepare_together_and_measure_one_after_the_other(visit):
    found = visit({"first": {"when": "turn"}, "bad": {"when": "beside"}, "second": {"when": "turn"}})
    (left, _, end), (_, begin, _) = (found[name]["result"]["value"] for name in ("first", "second"))
    assert begin >= end
    assert left == 10.0  # of 30 seconds, 20 are for writing what was found
    assert found["first"]["state"] == found["second"]["state"] == "done"
    assert found["first"]["prepared_s"] > 0


def test_who_is_not_ready_in_time_lets_the_others_go_first(visit):
    found = visit({"late": {"when": "turn"}, "second": {"when": "turn"}}, "--minutes", "0.2")
    assert found["second"]["state"] == "done"
    assert found["late"]["state"] == "stopped: not ready in time"


def test_a_second_visit_keeps_the_other_items_of_the_first(visit):
    visit({"good": {}})
    assert set(visit({"bad": {}})) == {"good", "bad"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--only", "goood"), "no item goood; the list has good"),
        (("--minutes", "nan"), "--minutes is nan, it must be more than 0"),
        (("--minutes", "-1"), "--minutes is -1.0, it must be more than 0"),
        (("--resume", __file__), "is no learning.tar of an earlier visit"),
        (("--output", __file__), "is a file, name a folder"),
    ],
)
def test_wrong_options_are_named_before_anything_starts(load, monkeypatch, tmp_path, capsys, arguments, line):
    gpu_visit = load("gpu_visit")
    monkeypatch.setitem(gpu_visit.LISTS, "first", [gpu_visit.Item("good", 1.0, [], [], str)])
    monkeypatch.setattr(sys, "argv", ["gpu_visit.py", "--output", str(tmp_path / "out"), *arguments])
    with pytest.raises(SystemExit) as end:
        gpu_visit.main()
    assert end.value.code == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which", ["first", "deeper"])
def test_commands_of_all_items_are_understood_by_their_scripts(load, monkeypatch, which):
    """The arguments are parsed by the scripts themselves; nothing is run."""
    commands = [command for item in load("visit_items").LISTS[which] for command in (item.command, item.toy)]

    class Parsed(Exception):
        """The parser was content."""

    parse = argparse.ArgumentParser.parse_known_args

    def stop_after(self, *arguments, **options):
        parse(self, *arguments, **options)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop_after)
    for script, *arguments in commands:
        filled = [part.format(work="work") for part in arguments]
        monkeypatch.setattr(sys, "argv", [script, *filled, "--output", "out.json"])
        with pytest.raises(Parsed):
            load(script.removesuffix(".py")).main()


def test_names_are_told_apart(load):
    items = load("visit_items")
    everything = [*items.FIRST, *items.DEEPER]
    assert len({one.name for one in everything}) == len(everything)


def test_scripts_that_get_a_turn_wait_for_it(load):
    items = load("visit_items")
    for one in (*items.FIRST, *items.DEEPER):
        waits = "wait_for_turn(" in (ROOT / "benchmarks" / one.command[0]).read_text()
        assert waits == (one.when == "turn"), one.name

"""The highest rates of this device: every floor in the benchmarks divides by them.

python benchmarks/ceilings.py --output benchmarks/results/ceilings_DEVICE.json
"""

import argparse
from pathlib import Path

from timing import device_peak, environment, report, wait_for_turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = environment()
    wait_for_turn()
    report(found | {"peak": device_peak()._asdict()}, options.output)


if __name__ == "__main__":
    main()

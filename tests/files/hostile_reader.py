"""Reads files that may crash the process: run as a program of its own, a path per line, an answer per line."""

import json
import resource
import sys

MEMORY = 3 * 2**30  # bytes


def main() -> None:
    from sheap_jax.files.array_files import load_any

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            load_any(line.rstrip("\n"))
            answer = ["read", ""]
        except ValueError as error:
            answer = ["refused", str(error)]
        except BaseException as error:
            answer = ["other", f"{type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

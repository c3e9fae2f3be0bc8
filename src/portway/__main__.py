"""`portway`, and `python -m portway`."""

import sys


def main() -> None:
    """The console script. Ctrl+C may come while it loads, which takes a moment."""
    try:
        from portway.cli import main as command_line
    except KeyboardInterrupt:
        print("portway: interrupted", file=sys.stderr)
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()

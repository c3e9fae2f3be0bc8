"""`python -m portway` is `portway`."""

from portway.cli import main

if __name__ == "__main__":
    main()

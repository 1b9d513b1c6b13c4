"""``python -m framecnn``: the command line."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working directory, whose modules would be imported instead of Python's

    from framecnn.cli import main

    main()

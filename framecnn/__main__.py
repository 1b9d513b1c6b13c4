"""``python -m framecnn``: the command line."""

from framecnn.cli import main

if __name__ == "__main__":
    main()

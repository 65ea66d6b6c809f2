"""`python -m wshost`: the same as the command `wshost`."""

import sys

from wshost.commands.foreground import main

if __name__ == "__main__":
    sys.exit(main())

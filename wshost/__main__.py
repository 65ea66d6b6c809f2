"""The command `wshost`, and `python -m wshost`."""

import signal
import sys


def main() -> int:
    """Run the command, and return its exit status."""
    # While Python imports all that is needed, Ctrl-C leaves no traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from wshost.commands import foreground  # noqa: PLC0415 - see above

    return foreground.main()


if __name__ == "__main__":
    sys.exit(main())

"""One connection and what it needs: the hub that admits it, its output, its modules, its timers, its ref."""

"""What one can ask a server for: all options, how they are read, and what they are when nobody asks.

Each option stands once, in `options`: its kind, range, default and help. The command line, TOML files (`file`),
`wshost.service`, the mappings of our protocol modules, `--help`, the tables of the documentation and the tests all read
that table. `kinds` says how a value is read and checked; `wsserver` has the original's names for options and modules.

The way: text or values are checked by their kinds, one by one; `options.settle` looks at them together, and returns
`Settings`. From there `wshost.chain` hands each module the options that are its own, and the module checks its mapping
by `options.module_options`. So an option is added by one entry in `options`, and by the part that uses it.

Nothing here uses an option, or imports what does.
"""

"""The options of a server: their names, defaults and help, and how they are read and checked.

Each option stands once, in `options`: its kind, range, default and help. The command line, TOML files (`file`), the
environment (`environment`), `wshost.service`, the mappings of wshost's protocol modules, `--help`, the tables of the
documentation and the tests all use this table. `kinds` reads and checks values of each kind. `wsserver` has the names
that wsserver, the original in Erlang, has for options and modules.

First each value is checked by its kind. Then `options.settle` checks all values together, and returns `Settings`.
`wshost.chain` gives each protocol module the module's own options, and the module checks them by
`options.module_options`. So a new option needs one entry in `options`, and the code that uses the option.

Nothing here uses an option, or imports code that does.
"""

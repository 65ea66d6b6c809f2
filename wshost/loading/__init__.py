"""Imports users' code, when the server starts and when it reloads. Nothing here runs that code afterwards.

`handlers` turns the option `handler` into an object that has `init` and `handle`. `importing` runs users' code for the
first time, also for `wshost.plugins`, which finds protocol modules. `afresh` imports handlers once more. An error
becomes a `ConfigurationError`: one line that says what is wrong. If users' own code raised the error, it has their
traceback, without wshost's frames.
"""

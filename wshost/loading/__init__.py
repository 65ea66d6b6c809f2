"""Imports what users have written, once, when the server starts. Nothing here runs it afterwards.

`handlers` turns the option `handler` into an object that has `init` and `handle`. `importing` makes every such first
run of users' code, also for `wshost.plugins`, which finds protocol modules. An error becomes a `ConfigurationError`,
one line that says what is wrong. If users' own code has raised it, it carries their traceback, without our frames.
"""

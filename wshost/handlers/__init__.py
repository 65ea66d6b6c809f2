"""Handlers: how the user's are run, and the few that come along."""

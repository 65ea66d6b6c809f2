"""Placeholder."""


class ClusterVisitor:
    pass

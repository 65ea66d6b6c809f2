"""Tells all subscribers of a topic something, from a program that is no server."""

import sys

import wshost

broker, topic, text = sys.argv[1:]
with wshost.connect(broker) as cluster:
    cluster.publish(topic, text)

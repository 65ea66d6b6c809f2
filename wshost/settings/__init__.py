"""The options: their names, kinds, defaults and files. Nothing here uses one."""

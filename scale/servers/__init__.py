"""Other Python servers that publish over Redis, each as its documentation says it is used in production.

Each process of them runs one of these applications under uvicorn with uvloop and httptools. A client's text
``!publish COUNT SIZE`` publishes so many messages to all subscribers, of all processes. The broker is named by the
environment variable `SCALE_REDIS`.
"""

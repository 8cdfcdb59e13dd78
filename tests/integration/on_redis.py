#!/usr/bin/env python3
"""Runs a test file with every parleyd on a Redis of its own: on_redis.py test_delivery.py

What holds on the embedded bus holds there; what cannot is marked embedded_only in the files.
"""
import os
import subprocess
import sys

from pages import Redis


def main():
    server = Redis().begin()
    try:
        env = {**os.environ, "PL_TEST_BUS": server.url}
        return subprocess.run([sys.executable, *sys.argv[1:]], env=env).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())

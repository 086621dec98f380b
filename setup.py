"""The one thing setup.cfg can't say: every package below tfapp, and `recipes/` as `tfapp_recipes`."""

from setuptools import find_packages, setup

setup(packages=["tfapp_recipes", *find_packages(include=["tfapp", "tfapp.*"])])

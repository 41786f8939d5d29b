"""Tests of `basestore`, a folder for each room."""

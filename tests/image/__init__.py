"""Tests of prong.image."""

"""Uploads that go on where the server stands, after a broken connection or a killed process."""

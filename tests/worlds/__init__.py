"""What several suites share: worlds of real nodes without sockets, fakes, strategies and transcripts."""

"""Where commands run: local or SSH; scripts, files, streams, host keys, many at once."""

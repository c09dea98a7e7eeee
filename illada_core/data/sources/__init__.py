"""What to read: files, folders, streams and hub datasets, as documents."""

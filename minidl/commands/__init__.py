"""The commands of `minidl`: each takes the parsed arguments and prints, or raises `terminal.Failure` with a reason."""

"""What any floor above may use: names, numbers, files, plots and the terminal."""

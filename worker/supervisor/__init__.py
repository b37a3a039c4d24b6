"""The execution: claims jobs, lays out their run directories, starts and watches trainers."""

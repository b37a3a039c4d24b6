"""How fast a distillation trains, ours against others, on equal work: parts of `benchmarks.kd`."""

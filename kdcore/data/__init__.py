"""Reading datasets: scanning folders into manifests, decoding, augmenting, ordering batches."""

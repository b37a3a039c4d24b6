"""The REST resources, one module each; `routers` lists them in the order of the documentation."""

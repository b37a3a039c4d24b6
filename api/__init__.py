"""FastAPI: HTTP in, rows out. No torch, no Celery, no training code."""

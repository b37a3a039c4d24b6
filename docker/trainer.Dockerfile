# The worker and its trainers: the locked torch wheels carry CUDA and cuDNN; the host needs the driver
# and the NVIDIA container toolkit. gcc is for torch.compile.
FROM python:3.12-slim-bookworm AS build
RUN python -m pip install --no-cache-dir uv && python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --python /opt/venv/bin/python \
    --require-hashes --constraint requirements.lock --group worker --extra trainer -r pyproject.toml

FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install --no-install-recommends -y gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY kdcore kdcore
COPY worker worker
RUN mkdir /artifacts /runs && chown 10001:10001 /artifacts /runs
USER 10001:10001
CMD ["python", "-m", "worker"]

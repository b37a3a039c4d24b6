# The worker and its trainers: the locked torch wheels carry CUDA and cuDNN; the host needs the driver
# and the NVIDIA container toolkit. gcc is for torch.compile.
FROM python:3.12-slim-bookworm AS build
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir uv && python -m venv --without-pip /opt/venv
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN uv pip install --no-cache --python /opt/venv/bin/python \
    --require-hashes --constraint requirements.lock --group worker --extra trainer -r pyproject.toml

FROM python:3.12-slim-bookworm
# Versions are the base image's; a pinned one is gone from the archive at the next security update.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --no-install-recommends -y gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
RUN useradd --no-log-init --uid 10001 --home-dir /tmp --no-create-home stillhouse \
    && install --directory --owner=10001 --group=10001 /runs
COPY --from=build /opt/venv /opt/venv
COPY docker/seat.sh /usr/local/bin/seat
WORKDIR /app
# What the runs on MLflow say of the code that made them.
COPY requirements.lock ./
COPY kdcore kdcore
COPY worker worker
ARG GIT_SHA=
ENV KD_GIT_SHA=$GIT_SHA
USER 10001:10001
ENTRYPOINT ["seat"]
CMD ["python", "-m", "worker.cluster", "worker"]

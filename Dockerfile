# An image for workers, and for runs on a Docker or Kubernetes pool: docs/deploy.md.
#
#     docker build --tag digitflow .

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN python -m venv /opt/digitflow
ENV PATH=/opt/digitflow/bin:$PATH
WORKDIR /source
# First: what digitflow needs changes less often than digitflow.
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md prefect.yaml ./
COPY digitflow digitflow
COPY flows flows
COPY storage storage
COPY tasks tasks
# With the pinned setuptools, so that nothing is fetched.
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --create-home --home-dir /var/lib/digitflow digitflow
COPY --from=build /opt/digitflow /opt/digitflow
ENV PATH=/opt/digitflow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DIGITFLOW_STORE=/var/lib/digitflow/store \
    PREFECT_HOME=/var/lib/digitflow/prefect
# A number: Kubernetes cannot tell from a name that it is not root.
USER 10001
WORKDIR /var/lib/digitflow
CMD ["prefect", "worker", "start", "--pool", "digitflow"]

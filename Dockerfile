# latentdiff in a container: see docs/guide/containers.md.
# Python 3.11 or later, with venv.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# PyTorch without CUDA, which is a tenth of the size. For an NVIDIA GPU: https://download.pytorch.org/whl/cu130
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=app,onnx
RUN python3 -m venv /opt/latentdiff
ENV PATH=/opt/latentdiff/bin:$PATH
# First, so that a change of the package does not install PyTorch again. pyproject.toml says which versions will do.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch torchvision
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY latentdiff latentdiff
COPY configs configs
COPY checkpoints checkpoints
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[${EXTRAS}]"

FROM ${BASE}
COPY --from=build /opt/latentdiff /opt/latentdiff
ENV PATH=/opt/latentdiff/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LATENTDIFF_DATA=/srv/latentdiff/data \
    LATENTDIFF_CACHE=/srv/latentdiff/cache \
    TORCH_HOME=/srv/latentdiff/cache/torch
# Whichever user runs it may write there: compose.yaml runs it as the user whose folder stages/ is.
RUN useradd --non-unique --create-home --uid 1000 latentdiff \
    && mkdir -p /srv/latentdiff/data /srv/latentdiff/cache /srv/latentdiff/stages \
    && chmod -R 1777 /srv/latentdiff
USER 1000:1000
WORKDIR /srv/latentdiff
EXPOSE 7860
ENTRYPOINT ["latentdiff"]
# Within the container: who may reach it is for the published port to say.
CMD ["app", "--host", "0.0.0.0"]

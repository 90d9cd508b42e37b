# What runs in the cluster. See docs/image.md.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# By the environment, so that it holds for what builds the package too: pip makes that an environment of its own,
# and from 25.3 on takes its versions from the second of these.
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_BUILD_CONSTRAINT=/src/constraints.txt
COPY constraints.txt pyproject.toml LICENSE ./
# The dependencies first, with an empty package: a change of the code does not install them again.
RUN touch README.md && mkdir booking_operator && touch booking_operator/__init__.py \
 && python3 -m venv --without-pip /opt/booking-operator \
 && python3 -m pip --python /opt/booking-operator/bin/python3 install \
      --no-cache-dir --no-compile --only-binary=:all: ".[operator]" \
# Of 400 services that botocore describes, those that the operator and its credentials need; of kubernetes_asyncio the
# configuration alone, as booking_operator/kube/__init__.py says; and of holidays no translations.
 && cd /opt/booking-operator/lib/python3*/site-packages \
 && find botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name application-autoscaling ! -name autoscaling ! -name ec2 ! -name ecs ! -name rds \
      ! -name resourcegroupstaggingapi ! -name sts ! -name sso ! -name sso-oidc -exec rm -r {} + \
 && find botocore/data -name 'examples-*' -delete \
 && rm -r boto3/data boto3/examples holidays/locale kubernetes_asyncio/client/api kubernetes_asyncio/client/models \
# The root file system is read-only at run time: what is not compiled now would be at every start.
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash .
COPY booking_operator ./booking_operator
RUN python3 -m pip --python /opt/booking-operator/bin/python3 install \
      --no-cache-dir --no-compile --no-deps --force-reinstall . \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      /opt/booking-operator/lib/python3*/site-packages/booking_operator

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="booking-operator" \
      org.opencontainers.image.description="Starts and stops groups of tagged cloud instances by bookings" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# pip and setuptools of the base, the places where python.org's images and Debian have them.
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/lib/python3*/site-packages \
      /usr/local/lib/python3*/ensurepip /usr/bin/pip* /usr/lib/python3/dist-packages \
      /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /opt/booking-operator /opt/booking-operator
ENV PATH=/opt/booking-operator/bin:$PATH \
    HOME=/home/nonroot \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /
EXPOSE 8080 8081
# For Docker and its Compose; images in OCI's own format have no such field, and Kubernetes has its probes.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8081/healthz', timeout=4)"]
ENTRYPOINT ["booking-operator"]
CMD ["run"]

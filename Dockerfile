# syntax=docker/dockerfile:1
#
# An image with nothing in it but the program, statically linked, and the authorities that TLS to services is checked with:
# no shell, no package manager, no root.
#
#   docker build -t postern .
#   docker run --rm -p 8080:8080 -v "$PWD/postern.toml:/etc/postern/postern.toml:ro" -v postern:/var/lib/postern postern
#
# In the configuration: `path = "/var/lib/postern/postern.db"` under [store], and listeners at 0.0.0.0. docs/deployment.md says more.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --bin postern --target "$(uname -m)-unknown-linux-musl" \
    && mkdir -p /image/usr/bin /image/etc/ssl/certs /image/var/lib/postern /image/tmp \
    && cp "target/$(uname -m)-unknown-linux-musl/release/postern" /image/usr/bin/postern \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && chown 65532:65532 /image/var/lib/postern \
    && chmod 0700 /image/var/lib/postern \
    && chmod 1777 /image/tmp \
    && /image/usr/bin/postern --version

FROM scratch
COPY --from=build /image /
USER 65532:65532
WORKDIR /var/lib/postern
ENV POSTERN_CONFIG=/etc/postern/postern.toml
# The proxy, the management API, metrics and health: the defaults of the quick start.
EXPOSE 8080 8181 9464
VOLUME /var/lib/postern
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/bin/postern", "health"]
ENTRYPOINT ["/usr/bin/postern"]
CMD ["run"]

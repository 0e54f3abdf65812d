# The server in an image: docker build -t chinwag . && docker run -v chinwag:/var/lib/chinwag -p 7700:7700 chinwag

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN cargo build --locked --release --bin chinwag \
    && mkdir -p /out/var/lib/chinwag \
    && cp target/release/chinwag /out/

FROM debian:bookworm-slim
COPY --from=build /out/chinwag /usr/bin/chinwag
# Nobody in particular, and not root. The directory is there so that a new volume takes its owner over.
COPY --from=build --chown=65532:65532 /out/var/lib/chinwag /var/lib/chinwag
USER 65532:65532
ENV CHINWAG_SERVER__LISTEN=0.0.0.0:7700 \
    CHINWAG_SERVER__DATA=/var/lib/chinwag \
    CHINWAG_LOG__FORMAT=json
VOLUME /var/lib/chinwag
EXPOSE 7700
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["chinwag", "health"]
ENTRYPOINT ["chinwag"]
CMD ["serve"]

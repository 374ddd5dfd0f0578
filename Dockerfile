# The relay as an image: mount the configuration at /etc/smtpd and a volume at /var/lib/smtpd.
#
#   docker build -t smtpd .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 587:2587 \
#       -v ./etc:/etc/smtpd:ro -v smtpd-queue:/var/lib/smtpd smtpd
#
# It writes to /var/lib/smtpd and nowhere else, logs JSON to standard output, and needs no capability:
# its ports are above 1024. There is no configuration inside, since none would be right: it needs a
# certificate. tests/container/test_image.py tries the image out.
FROM debian:trixie-slim AS build
WORKDIR /source
# The packages first: a change of the sources does not fetch them again.
COPY third_party third_party
RUN third_party/bootstrap.sh setup demo
COPY CMakeLists.txt CMakePresets.json ./
COPY include include
COPY src src
RUN cmake --workflow --preset demo && strip -o /smtpd build/release/smtpd

FROM debian:trixie-slim
RUN apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ca-certificates libidn2-0 libjansson4 liblmdb0 libmicrohttpd12t64 libnettle8t64 \
        libsodium23 libudns0 libuv1t64 && \
    rm -rf /var/lib/apt/lists/* && \
    groupadd --gid 10001 smtpd && \
    useradd --uid 10001 --gid 10001 --home-dir /var/lib/smtpd --shell /usr/sbin/nologin smtpd && \
    install -d -m 700 -o smtpd -g smtpd /var/lib/smtpd && \
    install -d -m 755 /etc/smtpd
COPY --from=build /smtpd /usr/local/bin/smtpd
COPY LICENSE /usr/share/doc/smtpd/LICENSE
# A number, so that Kubernetes can see that it is not root. No file capability for low ports: the
# binary could not even be started where a runtime takes that capability away.
USER 10001:10001
VOLUME /var/lib/smtpd
# 2587 submission, 2465 submission with implicit TLS, 8587 probes and metrics (with [admin]).
EXPOSE 2587 2465 8587
# The relay ends cleanly on SIGTERM: nothing stands between it and the runtime.
STOPSIGNAL SIGTERM
# Kubernetes does not look at it: there the probes of [admin] are asked.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["smtpd", "health"]
ENTRYPOINT ["smtpd"]
CMD ["run"]
